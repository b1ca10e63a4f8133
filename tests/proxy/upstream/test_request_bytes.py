from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from proxy.kernel.asgi import Header
from proxy.upstream.failures import Unsendable
from proxy.upstream.request_bytes import chunk, encode

URL = httpx.URL("http://127.0.0.1:11434/from/url?q=1")


class Stream(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"abc"


class Blocking(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b"abc"


def request(
    method: str = "POST",
    target: bytes | None = b"/api/chat",
    headers: list[Header] | None = None,
    body: bytes | httpx.AsyncByteStream | httpx.SyncByteStream = b"",
) -> httpx.Request:
    stream = httpx.ByteStream(body) if isinstance(body, bytes) else body
    extensions = {} if target is None else {"target": target}
    return httpx.Request(method, URL, headers=headers or [], stream=stream, extensions=extensions)


def test_head_is_what_was_given_in_order_with_duplicates_and_nothing_else() -> None:
    headers = [(b"host", b"b:1"), (b"X-One", b"1"), (b"accept", b""), (b"x-one", b"2\t\xe9"), (b"content-length", b"2")]
    outgoing = encode(request(headers=headers, body=b"hi"))
    assert outgoing.head == (
        b"POST /api/chat HTTP/1.1\r\nhost: b:1\r\nX-One: 1\r\naccept: \r\nx-one: 2\t\xe9\r\ncontent-length: 2\r\n\r\n"
    )
    assert (outgoing.body, outgoing.upload, outgoing.bodiless) == (b"hi", None, False)


def test_no_header_is_no_header() -> None:
    assert encode(request("GET", b"/")).head == b"GET / HTTP/1.1\r\n\r\n"


def test_target_of_the_url_where_none_is_given() -> None:
    assert encode(request("GET", None)).head.startswith(b"GET /from/url?q=1 HTTP/1.1\r\n")


def test_head_has_no_response_body() -> None:
    assert encode(request("HEAD", b"/")).bodiless


@pytest.mark.parametrize("target", [b"/a//b/../c", b"/%2e%2e/x", b"/v1/models/a:b", b"/?a=b&&c", b"/a;b,c'\"<>|^`{}"])
def test_targets_are_not_rewritten(target: bytes) -> None:
    assert encode(request("GET", target)).head == b"GET " + target + b" HTTP/1.1\r\n\r\n"


def test_body_with_its_length_is_one_piece() -> None:
    assert encode(request(headers=[(b"Content-Length", b"3")], body=b"abc")).body == b"abc"


def test_known_body_in_chunks() -> None:
    headers = [(b"Transfer-Encoding", b"Chunked")]
    assert encode(request(headers=headers, body=b"abc")).body == b"3\r\nabc\r\n0\r\n\r\n"
    assert encode(request(headers=headers, body=b"")).body == b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "length"), [((b"content-length", b"3"), 3), ((b"transfer-encoding", b"chunked"), None)]
)
def test_streams_are_uploads(header: Header, length: int | None) -> None:
    stream = Stream()
    outgoing = encode(request(headers=[header], body=stream))
    assert outgoing.body == b""
    assert outgoing.upload == (stream, length)


def test_chunk() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


LENGTH = (b"content-length", b"3")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(request("GE T"), id="space in method"),
        pytest.param(request("GET\r\n"), id="line break in method"),
        pytest.param(request("GÉT"), id="method not ASCII"),
        pytest.param(request(""), id="no method"),
        pytest.param(request("CONNECT"), id="CONNECT"),
        pytest.param(request(target=b"/a b"), id="space in target"),
        pytest.param(request(target=b"/a\r\nX: y"), id="line break in target"),
        pytest.param(request(target=b"/a\0"), id="NUL in target"),
        pytest.param(request(target=b"/\xc3\xa9"), id="target not ASCII"),
        pytest.param(request(target=b"http://x/"), id="absolute target"),
        pytest.param(request(target=b"*"), id="asterisk"),
        pytest.param(request(headers=[(b"a b", b"")]), id="space in name"),
        pytest.param(request(headers=[(b"a:", b"")]), id="colon in name"),
        pytest.param(request(headers=[(b"", b"x")]), id="no name"),
        pytest.param(request(headers=[(b"a\r\n", b"")]), id="line break in name"),
        pytest.param(request(headers=[(b"a\xe9", b"")]), id="name not ASCII"),
        pytest.param(request(headers=[(b"a", b"x\r\nb: y")]), id="CR LF in value"),
        pytest.param(request(headers=[(b"a", b"x\ny")]), id="LF in value"),
        pytest.param(request(headers=[(b"a", b"x\ry")]), id="CR in value"),
        pytest.param(request(headers=[(b"a", b"x\r")]), id="CR at the end of a value"),
        pytest.param(request(headers=[(b"a", b"\n")]), id="LF alone"),
        pytest.param(request(headers=[(b"a", b"\0")]), id="NUL in value"),
        pytest.param(request(headers=[(b"a", b"\x1b[0m")]), id="escape in value"),
        pytest.param(request(headers=[(b"a", b"\x7f")]), id="DEL in value"),
        pytest.param(request(headers=[LENGTH, CHUNKED], body=b"abc"), id="both framings"),
        pytest.param(request(headers=[LENGTH, LENGTH], body=b"abc"), id="length twice"),
        pytest.param(request(headers=[CHUNKED, CHUNKED], body=b"abc"), id="coding twice"),
        pytest.param(request(headers=[(b"transfer-encoding", b"gzip, chunked")], body=b"abc"), id="other coding"),
        pytest.param(request(headers=[(b"content-length", b"+3")], body=b"abc"), id="signed length"),
        pytest.param(request(headers=[(b"content-length", b"3 ")], body=b"abc"), id="length with a space"),
        pytest.param(request(headers=[(b"content-length", b"")], body=b""), id="empty length"),
        pytest.param(request(headers=[(b"content-length", b"9" * 5000)], body=b"abc"), id="huge length"),
        pytest.param(request(headers=[(b"content-length", b"4")], body=b"abc"), id="body too short"),
        pytest.param(request(headers=[(b"content-length", b"2")], body=b"abc"), id="body too long"),
        pytest.param(request(body=b"abc"), id="body without framing"),
        pytest.param(request(body=Stream()), id="stream without framing"),
        pytest.param(request(headers=[LENGTH], body=Blocking()), id="blocking stream"),
    ],
)
def test_what_cannot_be_sent(bad: httpx.Request) -> None:
    with pytest.raises(Unsendable) as caught:
        encode(bad)
    assert not caught.value.sent
    assert "\n" not in str(caught.value)
