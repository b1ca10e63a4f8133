"""Chunked bodies: the application gets what RFC 9112 says was sent, and what stands behind is the next request."""

from tests.fuzz.judged import judge

HEAD = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

TOKENS = (
    b"0\r\n\r\n",
    b"0\r\n",
    b"1\r\na\r\n",
    b"3\r\nabc\r\n",
    b"a\r\n0123456789\r\n",
    b"A\r\n",
    b"0000000000000001\r\n",
    b"fffffffffffffffff\r\n",
    b"0x1\r\n",
    b"-1\r\n",
    b"1;a=b\r\n",
    b'1;a="b;c"\r\n',
    b"1 \r\n",
    b"1 ;a\r\n",
    b";",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"Content-Length: 5\r\n",
    b"X: y\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /next HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok",
)


def check(data: bytes) -> None:
    """Raise where the body that `data` is, behind a head, reads in two ways."""
    judge(HEAD + data)
