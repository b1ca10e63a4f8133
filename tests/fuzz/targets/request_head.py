"""Heads of requests: what is let through reads for the application as RFC 9112 reads it, however it is cut."""

from tests.fuzz.judged import judge as check

__all__ = ["TOKENS", "check"]

TOKENS = (
    b"GET ",
    b"POST ",
    b"HEAD / HTTP/1.1\r\n",
    b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/1.2\r\n",
    b"http://localhost/",
    b"Host: localhost\r\n",
    b"Host:",
    b"Content-Length: 3\r\n",
    b"Content-Length: +3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b"\t",
    b" ",
    b":",
    b"%00",
    b"%2f",
    b"//",
    b"0\r\n\r\n",
    b"\xff",
)
