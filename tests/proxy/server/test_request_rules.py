"""proxy/server/request_rules.py. What a client sees of it stands in tests/live/test_framing.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.asgi import Header
from proxy.kernel.errors import Refused
from proxy.server.request_rules import (
    EMPTY_LINE,
    METHODS,
    check_beginning,
    check_fields,
    check_size,
    open_head,
    pieces,
)

HOST: Header = (b"host", b"x")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_request_line_names_its_version(method: str, version: str) -> None:
    line = f"{method} /api/tags?a%20b HTTP/{version}\r\n".encode()
    assert open_head(line) == (line, version.encode(), ())


@pytest.mark.parametrize("minor", range(2, 10))
def test_a_higher_minor_version_is_read_as_1_1(minor: int) -> None:
    assert open_head(b"GET /a HTTP/1.%d\r\nA: b\r\n" % minor).data == b"GET /a HTTP/1.1\r\nA: b\r\n"


PART = st.text("abz019._~!$&'()*+;=-", min_size=1, max_size=12).map(str.encode)
PATH = st.text("abz019._~!$&'()*+,;=:@-/?", max_size=12).map(lambda path: b"/" + path.encode())


@given(st.sampled_from([b"http", b"https", b"HTTP"]), PART, st.none() | st.integers(0, 65535), PATH)
def test_absolute_form_is_the_path_at_the_host_of_the_target(
    scheme: bytes, name: bytes, port: int | None, path: bytes
) -> None:
    authority = name if port is None else b"%s:%d" % (name, port)
    head = open_head(b"GET %s://%s%s HTTP/1.1\r\n" % (scheme, authority, path))
    assert head.data == b"GET %s HTTP/1.1\r\n" % path
    check_fields([(b"host", authority.upper())], head.version, head.hosts)
    with pytest.raises(Refused):
        check_fields([(b"host", b"x" + authority)], head.version, head.hosts)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_only_what_stands_in_the_target_comes_out_of_it(before: bytes, behind: bytes) -> None:
    line = b"GET %s://x/%s HTTP/1.1\r\n" % (before, behind)
    try:
        head = open_head(line)
    except Refused:
        return
    assert head.data in (line, b"GET /%s HTTP/1.1\r\n" % behind)
    assert b"#" not in head.data
    assert head.data.count(b"\r\n") == 1


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (b"TRACE / HTTP/1.1\r\n", 405, "method_not_allowed"),
        (b"GET * HTTP/1.1\r\n", 400, "bad_target"),
        (b"GET /%00 HTTP/1.1\r\n", 400, "bad_target"),
        (b"GET / HTTP/2.0\r\n", 400, "malformed_request"),
        (b"GET /\r\n", 400, "malformed_request"),
        (b"\r\n", 400, "malformed_request"),
        (b"", 400, "malformed_request"),
        (b"\xff / HTTP/1.1\r\n", 400, "malformed_request"),
    ],
)
def test_any_other_line_is_explained(line: bytes, status: int, code: str) -> None:
    with pytest.raises(Refused) as refused:
        open_head(line)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_what_is_not_allowed_says_what_is() -> None:
    with pytest.raises(Refused) as refused:
        open_head(b"TRACE / HTTP/1.1\r\n")
    assert refused.value.headers == {"allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}


MESSAGES = {
    "the first line is not that of an HTTP/1.1 request",
    "the method is not a token",
    "this method is not served",
    "the request target must be a path, or a URL of this host, of printable ASCII without NUL",
}


@given(st.binary(max_size=60))
def test_no_line_breaks_the_reader_or_is_quoted_by_it(line: bytes) -> None:
    message = None
    try:
        open_head(line + b"\r\n")
    except Refused as error:
        message = error.message
    assert message is None or message in MESSAGES


def test_size_counts_bytes_and_lines() -> None:
    head = b"GET / HTTP/1.1\r\na: b\r\nc: d\r\n\r\n"
    check_size(head, len(head), 2)
    for max_bytes, max_fields, code in [(len(head), 1, "too_many_fields"), (len(head) - 1, 2, "head_too_large")]:
        with pytest.raises(Refused) as refused:
            check_size(head, max_bytes, max_fields)
        assert (refused.value.status, refused.value.code) == (431, code)


WHOLE = b"\r\nPOST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_every_beginning_of_a_good_head_may_go_on(length: int) -> None:
    check_beginning(WHOLE[:length])


@pytest.mark.parametrize(
    "begun",
    [b"\x16\x03\x01", b" GET", b"\n", b"\r\n\r\n", b"GET /\r\n", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nA: b\n"],
)
def test_a_beginning_that_cannot_become_a_head_is_refused_at_once(begun: bytes) -> None:
    with pytest.raises(Refused) as refused:
        check_beginning(begun)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([HOST], 0),
        ([HOST, (b"content-length", b"0")], 0),
        ([HOST, (b"content-length", b" 42\t")], 42),
        ([HOST, (b"transfer-encoding", b"Chunked ")], None),
        ([(b"host", b"[2001:db8::1]:8080")], 0),
        ([(b"host", b"my_box.example.com:1")], 0),
    ],
)
def test_fields_tell_the_length(headers: list[Header], length: int | None) -> None:
    assert check_fields(headers, b"1.1") == length


def test_http_1_0_needs_no_host() -> None:
    assert check_fields([], b"1.0") == 0


@pytest.mark.parametrize(
    ("headers", "version", "code"),
    [
        ([], b"1.1", "bad_host"),
        ([HOST, HOST], b"1.1", "bad_host"),
        ([(b"host", b"a b")], b"1.0", "bad_host"),
        ([(b"host", b"a" * 262)], b"1.1", "bad_host"),
        ([HOST, (b"content-length", b"")], b"1.1", "bad_framing"),
        ([HOST, (b"content-length", "\u0665".encode())], b"1.1", "bad_framing"),
        ([HOST, (b"content-length", b"1" * 19)], b"1.1", "bad_framing"),
        ([HOST, (b"content-length", b"1"), (b"content-length", b"1")], b"1.1", "bad_framing"),
        ([HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")], b"1.1", "bad_framing"),
        ([HOST, (b"transfer-encoding", b"chunked")], b"1.0", "bad_framing"),
        ([HOST, (b"transfer-encoding", b"gzip, chunked")], b"1.1", "bad_framing"),
        ([HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], b"1.1", "bad_framing"),
    ],
)
def test_fields_that_can_be_read_two_ways_are_refused(headers: list[Header], version: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_fields(headers, version)
    assert (refused.value.status, refused.value.code) == (400, code)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", EMPTY_LINE, b"0", b"a"]), max_size=40).map(b"".join), st.data())
def test_an_empty_line_ends_only_where_a_piece_ends(stream: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream)))
    before, read = stream[:cut], stream[cut:]
    parts = list(pieces(read))
    assert b"".join(parts) == read
    assert all(parts)
    ends = {cut}
    for part in parts:
        ends.add(max(ends) + len(part))
    for at in range(len(stream)):
        if stream[at : at + 4] == EMPTY_LINE and at + 4 > len(before):
            assert at + 4 in ends
