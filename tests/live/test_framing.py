"""Requests that no two readers may understand differently: a table of bytes, over real sockets."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.server.server import serve
from tests.support.options import server_options
from tests.support.raw import Raw, Recorder

BOTH_LOOPS = True

# Nothing here may be refused by a deadline.
OPTIONS = server_options(listen=["127.0.0.1:0"], head_timeout=60, body_timeout=60, keep_alive=60)

HOST = b"Host: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def get(line: bytes = b"GET / HTTP/1.1", fields: bytes = HOST) -> bytes:
    return line + b"\r\n" + fields + b"\r\n"


def target(path: bytes) -> bytes:
    return get(b"GET " + path + b" HTTP/1.1")


def post(fields: bytes, body: bytes = b"hello", version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\n" + HOST + fields + b"\r\n" + body


REFUSED: dict[str, tuple[int, bytes]] = {
    # the request line
    "http/0.9": (400, b"GET /\r\n"),
    "http/0.9 with a version": (400, get(b"GET / HTTP/0.9")),
    "http/2 preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "http/2.0": (400, get(b"GET / HTTP/2.0")),
    "http/2.1": (400, get(b"GET / HTTP/2.1")),
    "http/1.": (400, get(b"GET / HTTP/1.")),
    "http/1": (400, get(b"GET / HTTP/1")),
    "http/1.01": (400, get(b"GET / HTTP/1.01")),
    "http/1.2 with LF only": (400, get(b"GET / HTTP/1.2\nA: b")),
    "http/1.10": (400, get(b"GET / HTTP/1.10")),
    "http/01.1": (400, get(b"GET / HTTP/01.1")),
    "lower-case version": (400, get(b"GET / http/1.1")),
    "two spaces before the target": (400, get(b"GET  / HTTP/1.1")),
    "two spaces before the version": (400, get(b"GET /  HTTP/1.1")),
    "space after the version": (400, get(b"GET / HTTP/1.1 ")),
    "tab in the request line": (400, get(b"GET\t/ HTTP/1.1")),
    "no method": (400, get(b" / HTTP/1.1")),
    "no target": (400, get(b"GET HTTP/1.1")),
    "two empty lines in front": (400, b"\r\n\r\n" + get()),
    "bare LF in front": (400, b"\n" + get()),
    "tls client hello": (400, b"\x16\x03\x01\x02\x00\x01\x00"),
    "an answer": (400, b"HTTP/1.1 200 OK\r\n\r\n"),
    # methods
    "CONNECT": (405, get(b"CONNECT x:443 HTTP/1.1")),
    "TRACE": (405, get(b"TRACE / HTTP/1.1")),
    "PURGE": (405, get(b"PURGE / HTTP/1.1")),
    "PROPFIND": (405, get(b"PROPFIND / HTTP/1.1")),
    "unknown method": (405, get(b"FETCH / HTTP/1.1")),
    "lower-case method": (405, get(b"get / HTTP/1.1")),
    "method that begins like one": (405, get(b"GETTER / HTTP/1.1")),
    "method with a slash": (400, get(b"GE/T / HTTP/1.1")),
    # targets
    "asterisk": (400, get(b"OPTIONS * HTTP/1.1")),
    "absolute, another host": (400, target(b"http://other/api/tags")),
    "absolute, no Host": (400, get(b"GET http://x/ HTTP/1.1", b"")),
    "absolute, two Hosts": (400, get(b"GET http://x/ HTTP/1.1", HOST + HOST)),
    "absolute, another port": (400, target(b"http://x:81/")),
    "absolute, the port of the other scheme": (400, target(b"https://x:80/")),
    "absolute, a name that begins like ours": (400, target(b"http://x.evil.example/")),
    "absolute, user info": (400, target(b"http://u@x/")),
    "absolute, user info and password": (400, target(b"http://u:p@x/")),
    "absolute, our name as user info": (400, target(b"http://x@evil.example/")),
    "absolute, a fragment": (400, target(b"http://x/#a")),
    "absolute, no host": (400, target(b"http:///api/tags")),
    "absolute, no host but a port": (400, target(b"http://:80/")),
    "absolute, an empty port": (400, target(b"http://x:/")),
    "absolute, one slash": (400, target(b"http:/x/")),
    "absolute, no slash": (400, target(b"http:x/")),
    "absolute, a backslash": (400, target(b"http:\\\\x/")),
    "absolute, a backslash behind the host": (400, target(b"http://x\\@evil.example/")),
    "absolute, an encoded NUL": (400, target(b"http://x/a%00")),
    "absolute, a space": (400, target(b"http://x/a b")),
    "absolute, a control byte in the host": (400, target(b"http://x\x01/")),
    "absolute, ftp": (400, target(b"ftp://x/")),
    "absolute, a websocket": (400, target(b"ws://x/")),
    "absolute, a file": (400, target(b"file:///etc/passwd")),
    "absolute, no scheme": (400, target(b"://x/")),
    "absolute, a list of hosts": (400, get(b"GET http://x,y/ HTTP/1.1", b"Host: x,y\r\n")),
    "authority": (400, target(b"x:80")),
    "no leading slash": (400, target(b"api/tags")),
    "only a query": (400, target(b"?a")),
    "NUL": (400, target(b"/a\x00b")),
    "encoded NUL": (400, target(b"/api%00/tags")),
    "encoded NUL in the query": (400, target(b"/api/tags?a=%00")),
    "control byte": (400, target(b"/a\x01b")),
    "DEL": (400, target(b"/a\x7fb")),
    "bare CR in the target": (400, target(b"/a\rb")),
    "tab in the target": (400, target(b"/a\tb")),
    "space in the target": (400, target(b"/a b")),
    "backslash": (400, target(b"/api\\pull")),
    "backslash at once": (400, target(b"\\api\\pull")),
    "fragment": (400, target(b"/api/tags#x")),
    "non-ASCII": (400, target(b"/caf\xc3\xa9")),
    # Host
    "no Host": (400, get(fields=b"")),
    "two Hosts": (400, get(fields=HOST + b"Host: y\r\n")),
    "the same Host twice": (400, get(fields=HOST + HOST)),
    "two Hosts in HTTP/1.0": (400, get(b"GET / HTTP/1.0", HOST + HOST)),
    "empty Host": (400, get(fields=b"Host:\r\n")),
    "blank Host": (400, get(fields=b"Host:  \r\n")),
    "Host with a path": (400, get(fields=b"Host: x/?\r\n")),
    "Host with user info": (400, get(fields=b"Host: u@h\r\n")),
    "Host list": (400, get(fields=b"Host: a,b\r\n")),
    "Host list with a space": (400, get(fields=b"Host: a, b\r\n")),
    "Host with user info and sub-delimiters": (400, get(fields=b"Host: u:p!@h\r\n")),
    "Host with half a percent": (400, get(fields=b"Host: a%4\r\n")),
    "Host with an encoded slash": (400, get(fields=b"Host: a%2fb\r\n")),
    "Host with an encoded at sign": (400, get(fields=b"Host: a%40b\r\n")),
    "Host with an encoded comma": (400, get(fields=b"Host: a%2Cb\r\n")),
    "Host with an encoded line end": (400, get(fields=b"Host: a%0Ab\r\n")),
    "Host with an empty zone": (400, get(fields=b"Host: [fe80::1%]\r\n")),
    "Host with a query": (400, get(fields=b"Host: x?y\r\n")),
    "Host with quotes": (400, get(fields=b'Host: "x"\r\n')),
    "Host with a fragment": (400, get(fields=b"Host: x#y\r\n")),
    "Host with a space": (400, get(fields=b"Host: a b\r\n")),
    "Host with a backslash": (400, get(fields=b"Host: a\\b\r\n")),
    "Host with a scheme": (400, get(fields=b"Host: http://x\r\n")),
    "Host with a port that is none": (400, get(fields=b"Host: x:80a\r\n")),
    "Host with a signed port": (400, get(fields=b"Host: x:+80\r\n")),
    "Host with an empty port": (400, get(fields=b"Host: x:\r\n")),
    "Host that is only a port": (400, get(fields=b"Host: :80\r\n")),
    "Host with an open bracket": (400, get(fields=b"Host: [::1\r\n")),
    "Host in latin-1": (400, get(fields=b"Host: \xe9\r\n")),
    # header lines
    "space before the colon": (400, get(fields=HOST + b"A : b\r\n")),
    "tab before the colon": (400, get(fields=HOST + b"A\t: b\r\n")),
    "space in a name": (400, get(fields=HOST + b"A b: c\r\n")),
    "no name": (400, get(fields=HOST + b": b\r\n")),
    "no colon": (400, get(fields=HOST + b"A\r\n")),
    "folded line": (400, get(fields=HOST + b"A: b\r\n c\r\n")),
    "folded line with a tab": (400, get(fields=HOST + b"A: b\r\n\tc\r\n")),
    "folded first line": (400, get(fields=b" A: b\r\n" + HOST)),
    "LF for CR LF": (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    "LF after a field": (400, b"GET / HTTP/1.1\r\nHost: x\n\r\n"),
    "LF at the end": (400, b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    "LF in a value": (400, get(fields=HOST + b"A: b\nC: d\r\n")),
    "CR in a value": (400, get(fields=HOST + b"A: b\rC: d\r\n")),
    "CR CR LF": (400, get(fields=HOST + b"A: b\r\r\n")),
    "NUL in a value": (400, get(fields=HOST + b"A: b\x00\r\n")),
    "NUL in a name": (400, get(fields=HOST + b"A\x00: b\r\n")),
    "control byte in a value": (400, get(fields=HOST + b"A: \x0b\r\n")),
    "escape in a value": (400, get(fields=HOST + b"A: \x1b[31m\r\n")),
    "DEL in a value": (400, get(fields=HOST + b"A: \x7f\r\n")),
    "non-ASCII name": (400, get(fields=HOST + b"\xc3\xa9: b\r\n")),
    # Content-Length
    "length with a plus": (400, post(b"Content-Length: +5\r\n")),
    "length with a minus": (400, post(b"Content-Length: -5\r\n")),
    "hexadecimal length": (400, post(b"Content-Length: 0x5\r\n")),
    "length with an underscore": (400, post(b"Content-Length: 5_0\r\n")),
    "empty length": (400, post(b"Content-Length:\r\n")),
    "length with a point": (400, post(b"Content-Length: 5.0\r\n")),
    "length in other digits": (400, post("Content-Length: \u0665\r\n".encode())),
    "length list": (400, post(b"Content-Length: 5, 5\r\n")),
    "length with a space in it": (400, post(b"Content-Length: 5 5\r\n")),
    "two lengths": (400, post(b"Content-Length: 5\r\nContent-Length: 6\r\n")),
    "the same length twice": (400, post(b"Content-Length: 5\r\nContent-Length: 5\r\n")),
    "huge length": (400, post(b"Content-Length: 99999999999999999999\r\n")),
    "length beyond reason": (400, post(b"Content-Length: 9223372036854775807\r\n")),
    # Transfer-Encoding
    "length, then chunked": (400, post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "chunked, then length": (400, post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n")),
    "chunked in HTTP/1.0": (400, post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"1.0")),
    "chunked twice": (400, post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "chunked, chunked": (400, post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n")),
    "gzip, chunked": (400, post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n")),
    "chunked, gzip": (400, post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n")),
    "identity": (400, post(b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n")),
    "empty encoding": (400, post(b"Transfer-Encoding:\r\n", b"0\r\n\r\n")),
    "encoding with a parameter": (400, post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n")),
    "encoding with a vertical tab": (400, post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n")),
    "xchunked": (400, post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n")),
    "quoted chunked": (400, post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n")),
    "encoding with a space before the colon": (400, post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    "folded encoding": (400, post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n")),
}

BAD_CHUNKS: dict[str, bytes] = {
    "LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "CR CR LF after the size": b"5\r\r\nhello\r\n0\r\n\r\n",
    "space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "only an extension": b";a\r\nhello\r\n0\r\n\r\n",
    "not hexadecimal": b"g\r\nhello\r\n0\r\n\r\n",
    "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "line end in a quoted extension": b'5;a="b\r\nc"\r\nhello\r\n0\r\n\r\n',
    "no line end after the chunk": b"5\r\nhello0\r\n\r\n",
    "LF after the chunk": b"5\r\nhello\n0\r\n\r\n",
    "chunk longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "LF after the last size": b"0\n\r\n",
    "LF at the end": b"0\r\n\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "space before a trailer's colon": b"0\r\nA : b\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \x00\r\n\r\n",
    "length as trailer": b"0\r\nContent-Length: 5\r\n\r\n",
}
REFUSED |= {f"chunk: {name}": (400, CHUNKED + body) for name, body in BAD_CHUNKS.items()}

ACCEPTED: dict[str, tuple[bytes, bytes]] = {
    "get": (get(), b"GET / "),
    "empty line in front": (b"\r\n" + get(), b"GET / "),
    "absolute": (target(b"http://x/api/tags?a=b"), b"GET /api/tags?a=b "),
    "absolute, https": (target(b"https://x/api/tags"), b"GET /api/tags "),
    "absolute, in capitals": (target(b"HTTP://X/API"), b"GET /API "),
    "absolute, without a path": (target(b"http://x"), b"GET / "),
    "absolute, only a query": (target(b"http://x?a=b"), b"GET /?a=b "),
    "absolute, a default port": (target(b"http://x:80/a"), b"GET /a "),
    "absolute, a default port in Host": (get(b"GET https://x/a HTTP/1.1", b"Host: x:443\r\n"), b"GET /a "),
    "absolute, a port": (get(b"GET http://x:11435/a HTTP/1.1", b"Host: X:11435\r\n"), b"GET /a "),
    "absolute, ipv6": (get(b"GET http://[::1]:11435/a HTTP/1.1", b"Host: [::1]:11435\r\n"), b"GET /a "),
    "absolute, ipv6 without a port": (get(b"GET http://[::1]/a HTTP/1.1", b"Host: [::1]:80\r\n"), b"GET /a "),
    "absolute, two slashes": (target(b"http://x//a"), b"GET //a "),
    "absolute, a URL in the path": (target(b"http://x/http://y@z/"), b"GET /http://y@z/ "),
    "absolute, a body": (
        b"POST http://x/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /a hello",
    ),
    "http/1.2": (get(b"GET / HTTP/1.2"), b"GET / "),
    "http/1.9 with chunks": (
        b"POST / HTTP/1.9\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST / hello",
    ),
    "http/1.2, absolute, upgrade": (
        get(b"GET http://x/a HTTP/1.2", HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        b"GET /a ",
    ),
    "percent-encoded": (target(b"/api/%70ull"), b"GET /api/%70ull "),
    "two slashes": (target(b"//api/pull"), b"GET //api/pull "),
    "dots": (target(b"/api/x/../pull"), b"GET /api/x/../pull "),
    "query": (target(b"/api/tags?a=b%20c&{}|^\"<>'"), b"GET /api/tags?a=b%20c&{}|^\"<>' "),
    "question mark in the query": (target(b"/a?b?c"), b"GET /a?b?c "),
    "host with port": (get(fields=b"Host: proxy.example.com:11435\r\n"), b"GET / "),
    "host without a space": (get(fields=b"Host:x\r\n"), b"GET / "),
    "host with white space around": (get(fields=b"Host: \tx \t\r\n"), b"GET / "),
    "host of a container": (get(fields=b"Host: my_proxy-1:80\r\n"), b"GET / "),
    "ipv6 host": (get(fields=b"Host: [::1]:11435\r\n"), b"GET / "),
    "host with sub-delimiters": (get(fields=b"Host: a!$&'()*+;=b~_-.c:80\r\n"), b"GET / "),
    "host with a percent-encoded letter": (get(fields=b"Host: caf%C3%A9.example\r\n"), b"GET / "),
    "ipv6 host with a zone": (get(fields=b"Host: [fe80::1%25eth0]:11435\r\n"), b"GET / "),
    "host with a dot at the end": (get(fields=b"Host: x.example.\r\n"), b"GET / "),
    "host in capitals": (get(fields=b"HOST: X\r\n"), b"GET / "),
    "latin-1 value": (get(fields=HOST + b"A: \xe9\r\n"), b"GET / "),
    "empty value": (get(fields=HOST + b"A:\r\n"), b"GET / "),
    "tab in a value": (get(fields=HOST + b"A: b\tc\r\n"), b"GET / "),
    "length": (post(b"Content-Length: 5\r\n"), b"POST / hello"),
    "length with zeros": (post(b"Content-Length: 00005\r\n"), b"POST / hello"),
    "length with white space around": (post(b"Content-Length:\t5 \r\n"), b"POST / hello"),
    "no body": (post(b"Content-Length: 0\r\n", b""), b"POST / "),
    "body with an empty line": (post(b"Content-Length: 9\r\n", b"a\r\n\r\nb\r\n\r\n"[:9]), b"POST / a\r\n\r\nb\r\n\r"),
    "chunked": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"POST / hello"),
    "chunked in capitals": (post(b"TRANSFER-ENCODING: Chunked\r\n", b"0\r\n\r\n"), b"POST / "),
    "two chunks": (CHUNKED + b"2\r\nhe\r\n00003\r\nllo\r\n0\r\n\r\n", b"POST / hello"),
    "chunk extensions": (CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0;e\r\n\r\n', b"POST / hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Role: admin\r\nHost: y\r\n\r\n", b"POST / hello"),
    "body that looks like an end": (
        CHUNKED + b"d\r\na\r\n\r\n0\r\n\r\nb\r\n\r\n0\r\n\r\n",
        b"POST / a\r\n\r\n0\r\n\r\nb\r\n",
    ),
    "upgrade": (get(fields=HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), b"GET / "),
    "h2c upgrade with a body": (
        post(b"Connection: Upgrade, HTTP2-Settings\r\nuPGRADE: h2c\r\nHTTP2-Settings: x\r\nContent-Length: 5\r\n"),
        b"POST / hello",
    ),
    "h2c upgrade with chunks": (
        post(b"Upgrade: h2c\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        b"POST / hello",
    ),
}


@pytest.mark.parametrize("how", ["whole", "bytewise"])
@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name: str, how: str) -> None:
    status, data = REFUSED[name]
    app = Recorder()
    async with serve(app, OPTIONS) as server, await Raw.open(server.addresses[0]) as client:
        # A line that is broken may only show when the next one begins.
        data += NEXT
        await (client.send(data) if how == "whole" else client.send_bytewise(data))
        answer = await client.response()
        assert answer.status == status
        assert answer.header(b"connection") == b"close"
        assert answer.header(b"content-type") == b"text/plain; charset=utf-8"
        assert answer.whole
        assert await client.rest() == b"", "one answer, and nothing behind it"
    targets = [seen.target for seen in app.seen]
    if how == "whole" or not data.startswith(CHUNKED):
        assert targets == [], "the application was called"
    else:
        # The head was fine when it came; the application saw it, and that its body never came to an end.
        assert targets in ([], [b"/"])
        assert not any(seen.complete for seen in app.seen)


@pytest.mark.parametrize("how", ["whole", "bytewise"])
@pytest.mark.parametrize("name", ACCEPTED)
async def test_accepted_and_pipelined(name: str, how: str) -> None:
    data, expected = ACCEPTED[name]
    app = Recorder()
    async with serve(app, OPTIONS) as server, await Raw.open(server.addresses[0]) as client:
        data += get(b"GET /next HTTP/1.1")
        await (client.send(data) if how == "whole" else client.send_bytewise(data))
        first = await client.response()
        assert (first.status, first.body) == (200, expected)
        second = await client.response()
        assert (second.status, second.body) == (200, b"GET /next ")
    assert len(app.seen) == 2
    assert app.seen[0].header(b"x-role") == [], "trailers are dropped"
    assert len(app.seen[0].header(b"host")) == 1


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40).map(lambda part: part + b"\r\n\r\n0\r\n\r\n"), max_size=4),
    cuts=st.sets(st.integers(min_value=1, max_value=600), max_size=12),
    trailer=st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nB: c\r\n"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_chunks_cut_anywhere(chunks: list[bytes], cuts: set[int], trailer: bytes) -> None:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    data = CHUNKED + framed + b"0\r\n" + trailer + b"\r\n" + get(b"GET /next HTTP/1.1")
    app = Recorder()
    async with serve(app, OPTIONS) as server, await Raw.open(server.addresses[0]) as client:
        ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
        for start, end in zip([0, *ends], ends, strict=False):
            await client.send(data[start:end])
        assert (await client.response()).body == b"POST / " + b"".join(chunks)
        assert (await client.response()).body == b"GET /next "
    assert len(app.seen) == 2


async def test_absolute_form_without_a_host_field_says_who_is_meant() -> None:
    app = Recorder()
    async with serve(app, OPTIONS) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(b"GET http://Box.example:80/a HTTP/1.0\r\n\r\n")
        assert (await client.response()).status == 200
    assert app.seen[0].header(b"host") == [b"box.example:80"]
    assert app.seen[0].scope["http_version"] == "1.0"


async def test_a_higher_minor_version_is_answered_as_1_1() -> None:
    async with serve(Recorder(), OPTIONS) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(get(b"GET / HTTP/1.7"))
        assert await client.until(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
