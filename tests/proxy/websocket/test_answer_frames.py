"""Answers, cut into the texts that become frames, however their chunks were cut."""

import time

import pytest

from proxy.websocket.answer_frames import Cutter, Events, Lines, TooLong, Whole, cutter_for

NDJSON = b'{"a":1}\n{"b":2}\n\n{"c":3}\n{"last":4}'
SSE = (
    b'data: {"a":1}\n\nevent: x\ndata: {"b":2}\n\n: comment\n\nid: 7\ndata:{"c":\ndata: 3}\n\nretry: 5\n\n'
    b'event: y\r\ndata: {"d":4}\r\n\r\ndata: [DONE]\n\ndata: unfinished'
)


def cut(cutter: type[Lines | Events | Whole], text: bytes, size: int) -> list[bytes]:
    found: list[bytes] = []

    def emit(data: bytes) -> bool:
        found.append(data)
        return True

    made: Cutter = cutter(emit, 1000)
    for at in range(0, len(text), size):
        assert made.take(text[at : at + size])
    made.end()
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 16, 1000])
def test_each_line_is_one_however_it_came(size: int) -> None:
    assert cut(Lines, NDJSON, size) == [b'{"a":1}', b'{"b":2}', b'{"c":3}', b'{"last":4}']


@pytest.mark.parametrize("size", [1, 2, 3, 7, 15, 16, 1000])
def test_the_data_of_each_event_is_one_however_it_came(size: int) -> None:
    assert cut(Events, SSE, size) == [b'{"a":1}', b'{"b":2}', b'{"c":\n3}', b'{"d":4}', b"[DONE]"]


@pytest.mark.parametrize("size", [1, 1000])
def test_any_other_answer_is_whole(size: int) -> None:
    assert cut(Whole, b'{"a":\n1}\n', size) == [b'{"a":\n1}']
    assert cut(Whole, b"", size) == []


def test_one_event_in_a_chunk_is_emitted_as_it_stands() -> None:
    for event, data in (
        (b"data: x\n\n", b"x"),
        (b"event: e\ndata: x\n\n", b"x"),
        (b"data: 1\ndata: 2\n\n", b"1\n2"),
        (b"event: e\ndata: 1\nid: 3\n\n", b"1"),
    ):
        assert cut(Events, event, 1000) == [data]


@pytest.mark.parametrize(
    ("kind", "cutter"),
    [
        (b"application/x-ndjson", Lines),
        (b"text/event-stream; charset=utf-8", Events),
        (b"application/json", Whole),
        (None, Whole),
    ],
)
def test_the_type_of_the_answer_decides(kind: bytes | None, cutter: type) -> None:
    headers = [] if kind is None else [(b"content-type", kind)]
    assert type(cutter_for(headers, lambda _: True, 9)) is cutter


@pytest.mark.parametrize("cutter", [Lines, Events, Whole])
def test_a_text_longer_than_a_frame_is_refused(cutter: type[Lines | Events | Whole]) -> None:
    made = cutter(lambda _: True, 10)
    made.take(b"x" * 9)
    with pytest.raises(TooLong):
        made.take(b"xx")


def test_it_says_whether_the_client_keeps_up() -> None:
    for cutter, chunk in ((Lines, b"a\n"), (Lines, b"a\nb\n"), (Events, b"data: a\n\n"), (Events, b"data: a\r\n\r\n")):
        assert not cutter(lambda _: False, 99).take(chunk)


@pytest.mark.parametrize(("cutter", "begin", "end"), [(Lines, b"", b"\n"), (Events, b"data: ", b"\n\n")])
def test_a_long_line_takes_time_for_its_length_and_not_for_its_square(
    cutter: type[Lines | Events], begin: bytes, end: bytes
) -> None:
    def seconds(size: int) -> float:
        found: list[int] = []

        def emit(data: bytes) -> bool:
            found.append(len(data))
            return True

        began = time.process_time()
        made = cutter(emit, 1 << 30)
        made.take(begin)
        for _ in range(size // 4096):
            made.take(b"x" * 4096)
        made.take(end)
        assert found == [size]
        return time.process_time() - began

    assert min(seconds(1 << 24) for _ in range(3)) < 128 * min(seconds(1 << 20) for _ in range(3))
