import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.answer import Answer
from proxy.upstream.failures import BadResponse
from proxy.upstream.parser import ITEM, AnswerParser
from tests.support.backend import chunked, reply
from tests.support.no_source import NoSource

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@dataclass
class Parsed:
    """What became of some bytes."""

    parser: AnswerParser
    answer: Answer
    items: list[bytes] = field(default_factory=list)
    error: BadResponse | None = None


def parse(
    loop: asyncio.AbstractEventLoop,
    *segments: bytes,
    bodiless: bool = False,
    head_bytes: int = 1000,
    head_fields: int = 10,
) -> Parsed:
    answer = Answer(NoSource(), loop, reused=False)
    parser = AnswerParser(answer, bodiless=bodiless, head_bytes=head_bytes, head_fields=head_fields)
    parsed = Parsed(parser, answer)
    try:
        for segment in segments:
            parser.feed(segment)
    except BadResponse as error:
        parsed.error = error
    answer.end(None)

    async def drain() -> None:
        parsed.items = [item async for item in answer]

    loop.run_until_complete(drain())
    return parsed


@pytest.mark.parametrize(
    ("data", "framing", "items", "keep_alive"),
    [
        (reply(b"hello"), "length", [b"hello"], True),
        (reply(b""), "length", [], True),
        (reply(b"hello", b"Connection: close"), "length", [b"hello"], False),
        (reply(b"hello", b"Connection: keep-alive, Close"), "length", [b"hello"], False),
        (OK + b"content-length:5 \t\r\n\r\nhello", "length", [b"hello"], True),
        (chunked(b"a", b"bc", b"d\r\ne"), "chunked", [b"a", b"bc", b"d\r\ne"], True),
        (chunked(), "chunked", [], True),
        (chunked(b"a", end=b"0\r\nX: y\r\nX: z\r\n\r\n"), "chunked", [b"a"], True),
        (OK + b"Transfer-Encoding: CHUNKED\r\n\r\n001;x=\"y\"\r\na\r\n000\r\n\r\n", "chunked", [b"a"], True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "length", [b"a"], False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", "length", [b"a"], True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "none", [], True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "none", [], True),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "none", [], False),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", "length", [b"a"], True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\n" + reply(b"a"), "length", [b"a"], True),
    ],
)  # fmt: skip
def test_whole_answers(
    loop: asyncio.AbstractEventLoop, data: bytes, framing: str, items: list[bytes], keep_alive: bool
) -> None:
    parsed = parse(loop, data)
    assert parsed.error is None
    assert parsed.parser.complete
    assert (parsed.answer.framing, parsed.items, parsed.parser.keep_alive) == (framing, items, keep_alive)
    assert not parsed.parser.surplus

    bytewise = parse(loop, *(data[at : at + 1] for at in range(len(data))))
    assert bytewise.parser.complete
    assert b"".join(bytewise.items) == b"".join(items)
    assert bytewise.answer.headers == parsed.answer.headers
    if framing == "chunked":
        assert bytewise.items == items


def test_headers_in_order_with_duplicates_and_names_in_lower_case(loop: asyncio.AbstractEventLoop) -> None:
    data = OK + b"X-B: 1\r\nx-a:\t2 \r\nX-b: \xe9,\r\nContent-Length: 0\r\nEmpty:\r\n\r\n"
    headers = [(b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"\xe9,"), (b"content-length", b"0"), (b"empty", b"")]
    assert parse(loop, data).answer.headers == headers


def test_headers_of_interim_responses_and_trailers_are_dropped(loop: asyncio.AbstractEventLoop) -> None:
    data = b"HTTP/1.1 103 x\r\nLink: y\r\n\r\n" + chunked(b"a", end=b"0\r\nLate: z\r\n\r\n")
    assert parse(loop, data).answer.headers == [(b"transfer-encoding", b"chunked")]


def test_version_and_status(loop: asyncio.AbstractEventLoop) -> None:
    answer = parse(loop, b"HTTP/1.0 599 What\r\n\r\n").answer
    assert (answer.status, answer.version, answer.framing) == (599, b"HTTP/1.0", "close")
    assert parse(loop, reply()).answer.version == b"HTTP/1.1"


def test_body_until_the_connection_closes_is_never_complete(loop: asyncio.AbstractEventLoop) -> None:
    parsed = parse(loop, OK + b"\r\n", b"a", b"bc")
    assert (parsed.answer.framing, parsed.items) == ("close", [b"a", b"bc"])
    assert not parsed.parser.complete
    assert not parsed.parser.keep_alive


@pytest.mark.parametrize(
    "head",
    [reply(b"x" * 7)[:-7], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", OK + b"\r\n", reply(b"")],
)
def test_head_has_no_body_whatever_its_headers_say(loop: asyncio.AbstractEventLoop, head: bytes) -> None:
    parsed = parse(loop, head, bodiless=True)
    assert parsed.error is None
    assert (parsed.parser.complete, parsed.parser.surplus, parsed.items) == (True, False, [])
    assert parsed.answer.framing == "none"


BAD = {
    "junk": b"hello\r\n",
    "empty line first": b"\r\n" + reply(),
    "space first": b" " + reply(),
    "RTSP": b"RTSP/1.0 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "status of two digits": b"HTTP/1.1 99 x\r\n\r\n",
    "status 099": b"HTTP/1.1 099 x\r\n\r\n",
    "status 600": b"HTTP/1.1 600 x\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 x\r\n\r\n",
    "bare LF after the status line": b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nabc",
    "switching protocols without saying to what": b"HTTP/1.1 101 x\r\n\r\n",
    "interim responses without end": b"HTTP/1.1 100 x\r\n\r\n" * 9,
    "interim response with a body": b"HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\nhello" + reply(),
    "TE and CL": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "CL and TE": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "CL twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two CL": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "CL list": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "CL +5": OK + b"Content-Length: +5\r\n\r\nhello",
    "CL -5": OK + b"Content-Length: -5\r\n\r\nhello",
    "CL 0x5": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "CL 5_0": OK + b"Content-Length: 5_0\r\n\r\nhello",
    "CL empty": OK + b"Content-Length: \r\n\r\nhello",
    "CL overflow": OK + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "TE gzip": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "TE gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "TE chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE identity": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "TE in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded line": OK + b"A: b\r\n c\r\n\r\n",
    "folded first line": OK + b" A: b\r\n\r\n",
    "space before the colon": OK + b"A : b\r\n\r\n",
    "space in a name": OK + b"A b: c\r\n\r\n",
    "no name": OK + b": b\r\n\r\n",
    "no colon": OK + b"abc\r\n\r\n",
    "NUL in a name": OK + b"A\0: b\r\n\r\n",
    "NUL in a value": OK + b"A: b\0\r\n\r\n",
    "control byte in a value": OK + b"A: b\x01\r\n\r\n",
    "DEL in a value": OK + b"A: b\x7f\r\n\r\n",
    "bare LF in the head": OK + b"A: b\nC: d\r\n\r\n",
    "bare CR in the head": OK + b"A: b\rC: d\r\n\r\n",
    "chunk size +5": chunked(end=b"+5\r\nhello\r\n"),
    "chunk size -5": chunked(end=b"-5\r\nhello\r\n"),
    "chunk size 0x5": chunked(end=b"0x5\r\nhello\r\n"),
    "chunk size 5_0": chunked(end=b"5_0\r\nhello\r\n"),
    "chunk size with a space before": chunked(end=b" 5\r\nhello\r\n"),
    "chunk size with a space behind": chunked(end=b"5 \r\nhello\r\n"),
    "chunk size empty": chunked(end=b"\r\nhello\r\n"),
    "chunk size overflow": chunked(end=b"fffffffffffffffff\r\nhello\r\n"),
    "chunk size ends with LF": chunked(end=b"5\nhello\r\n"),
    "chunk size ends with CR": chunked(end=b"5\rhello\r\n"),
    "chunk longer than its size": chunked(end=b"5\r\nhello!\r\n"),
    "chunk shorter than its size": chunked(end=b"5\r\nhell\r\n0\r\n\r\n"),
    "chunk ends with LF": chunked(end=b"5\r\nhello\n0\r\n\r\n"),
    "too many fields": OK + b"A: b\r\n" * 11 + b"\r\n",
    "too large a head": OK + b"A: " + b"b" * 1000 + b"\r\n\r\n",
    "too large a head, all at once": OK + b"A: " + b"b" * 1000 + b"\r\nContent-Length: 1\r\n\r\nx",
    "a head without end": OK + b"A: " + b"b" * 2000,
    "a reason without end": b"HTTP/1.1 200 " + b"b" * 2000,
    "a chunk extension without end": chunked(end=b"5;" + b"b" * 2000),
    "a trailer without end": chunked(end=b"0\r\nA: " + b"b" * 2000),
    "trailers without end": chunked(end=b"0\r\n" + b"A: b\r\n" * 500),
}  # fmt: skip


TRAILERS = [
    b"Content-Length: 5", b"content-length: 0", b"Content-Length: x", b"Content-Length: 1\r\nContent-Length: 2",
    b"X: y\r\nContent-Length: 3\r\nZ: 1", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity\r\nContent-Length: 3", b"Host: evil", b"Connection: close", b"Trailer: X",
    b"Connection: upgrade\r\nUpgrade: h2c", b"Content-Type: text/html", b"Set-Cookie: a=b",
]  # fmt: skip


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("step", [1, 7, 900])
def test_no_trailer_changes_the_answer_that_it_follows(
    loop: asyncio.AbstractEventLoop, trailer: bytes, step: int
) -> None:
    data = chunked(b"one", b"two", end=b"0\r\n" + trailer + b"\r\n\r\n")
    parsed = parse(loop, *(data[at : at + step] for at in range(0, len(data), step)))
    assert parsed.error is None
    assert parsed.parser.complete
    assert parsed.items == [b"one", b"two"]
    assert parsed.answer.headers == [(b"transfer-encoding", b"chunked")]
    if b"ontent-" in trailer.lower() and b"type" not in trailer.lower():
        assert parsed.parser.surplus  # what follows is not read any more, so its connection serves nobody else


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("step", [1, 7, 900])
def test_bad_answers(loop: asyncio.AbstractEventLoop, name: str, step: int) -> None:
    data = BAD[name]
    parsed = parse(loop, *(data[at : at + step] for at in range(0, len(data), step)))
    assert parsed.error is not None
    assert parsed.error.received
    assert parsed.error.sent
    assert not parsed.parser.complete
    assert "callback" not in str(parsed.error)


def test_what_comes_before_the_fault_is_handed_on(loop: asyncio.AbstractEventLoop) -> None:
    parsed = parse(loop, chunked(b"a", b"b", end=b"zz\r\n"))
    assert parsed.error is not None
    assert parsed.items == [b"a", b"b"]


@pytest.mark.parametrize(
    ("extra", "bodiless"),
    [
        (b"x", False),
        (reply(), False),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"\0", False),
        (b"x" * 7, True),
        (reply(), True),
    ],
)
@pytest.mark.parametrize("answer", [reply(b"hello"), chunked(b"hello"), b"HTTP/1.1 204 x\r\n\r\n"])
def test_surplus_does_not_spoil_the_answer(
    loop: asyncio.AbstractEventLoop, answer: bytes, extra: bytes, bodiless: bool
) -> None:
    if bodiless and b"\r\n\r\n" in answer:
        answer = answer[: answer.index(b"\r\n\r\n") + 4]
    parsed = parse(loop, answer + extra, bodiless=bodiless)
    assert parsed.error is None
    assert parsed.parser.complete
    if not bodiless or extra == b"x" * 7:
        assert parsed.parser.surplus or not parsed.parser.keep_alive
    assert b"".join(parsed.items) == (b"" if bodiless or b"204" in answer else b"hello")


def test_surplus_of_a_chunked_answer_is_not_read_as_a_part_of_it(loop: asyncio.AbstractEventLoop) -> None:
    parsed = parse(loop, chunked(b"mine") + chunked(b"not mine"))
    assert (parsed.items, parsed.parser.surplus) == ([b"mine"], True)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=12),
    cuts=st.lists(st.integers(min_value=0, max_value=700), max_size=12),
)
def test_chunks_come_out_as_they_were_framed(chunks: list[bytes], cuts: list[int]) -> None:
    data = chunked(*chunks)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    segments = [data[start:end] for start, end in pairwise(edges)]
    loop = asyncio.new_event_loop()
    try:
        parsed = parse(loop, *segments)
    finally:
        loop.close()
    assert parsed.parser.complete
    assert parsed.items == chunks


@pytest.mark.parametrize("size", [ITEM - 1, ITEM])
@pytest.mark.parametrize("step", [1000, 65_535, 10**6])
def test_chunks_up_to_64_kib_stay_whole(loop: asyncio.AbstractEventLoop, size: int, step: int) -> None:
    chunks = [b"a" * size, b"b", b"c" * size]
    data = chunked(*chunks)
    assert parse(loop, *(data[at : at + step] for at in range(0, len(data), step))).items == chunks


@pytest.mark.parametrize("step", [1000, 65_535, 10**6])
def test_larger_chunks_may_be_cut_but_never_merged(loop: asyncio.AbstractEventLoop, step: int) -> None:
    data = chunked(b"a" * (ITEM + 1), b"b", b"c" * (3 * ITEM))
    items = parse(loop, *(data[at : at + step] for at in range(0, len(data), step))).items
    assert b"".join(items) == b"a" * (ITEM + 1) + b"b" + b"c" * (3 * ITEM)
    assert items.index(b"b") > 0
    assert all(len(set(item)) == 1 for item in items)
    assert max(map(len, items)) <= ITEM + max(step, 0)


def test_an_unfinished_chunk_is_not_handed_on(loop: asyncio.AbstractEventLoop) -> None:
    assert parse(loop, chunked(b"whole", end=b"5\r\nhal")).items == [b"whole"]


def test_closing_leaves_no_cycle(loop: asyncio.AbstractEventLoop) -> None:
    class Parser(AnswerParser):
        __slots__ = ("__weakref__",)

    parser = Parser(Answer(NoSource(), loop, reused=False), bodiless=False, head_bytes=1000, head_fields=10)
    parser.feed(reply())
    gone = weakref.ref(parser)
    gc.disable()
    try:
        parser.close()
        del parser
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("behind", [b"", b"3", b"3\r\nabc\r\n0\r\n\r\n"])
def test_behind_a_chunked_head_without_a_body_nothing_is_sure(loop: asyncio.AbstractEventLoop, behind: bytes) -> None:
    """llhttp takes the beginning of a chunk and says nothing; it must not be lost in front of the next answer."""
    parser = parse(loop, OK + b"Transfer-Encoding: chunked\r\n\r\n" + behind, bodiless=True).parser
    assert (parser.complete, parser.keep_alive) == (True, False)
