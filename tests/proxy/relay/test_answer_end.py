"""proxy/relay/answer_end.py."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.attempts import Usage
from proxy.relay.answer_end import LARGE, LONGEST_JSON, LONGEST_RECORD, Ending, Format, Tail, format_of


def read(layout: Format, *chunks: bytes) -> Ending:
    tail = Tail(layout)
    for chunk in chunks:
        tail.add(chunk)
    return tail.read()


def line(**record: Any) -> bytes:
    return orjson.dumps(record) + b"\n"


def event(record: object, name: str | None = None) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + orjson.dumps(record) + b"\n\n"


TOKEN = line(model="m", response="é", done=False)
FINAL = line(model="m", done=True, done_reason="stop", context=[1] * 5, prompt_eval_count=7, eval_count=3)
DONE = b"data: [DONE]\n\n"
OPENAI_USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}})


@pytest.mark.parametrize(
    ("content_type", "layout"),
    [
        (b"application/x-ndjson", "ndjson"),
        (b"Text/Event-Stream; charset=utf-8", "sse"),
        (b"application/json; charset=utf-8", "json"),
        (b"text/plain", "other"),
        (None, "other"),
    ],
)
def test_layout(content_type: bytes | None, layout: Format) -> None:
    assert format_of(content_type) == layout


@pytest.mark.parametrize(
    ("layout", "chunks", "ending"),
    [
        ("ndjson", [TOKEN, FINAL], Ending(True, True, Usage(7, 3, done_reason="stop"))),
        ("ndjson", [TOKEN], Ending(False, True, None)),
        ("ndjson", [], Ending(False, True, None)),
        ("ndjson", [TOKEN, b'{"model":"m","resp'], Ending(False, False, None)),
        ("ndjson", [TOKEN, line(error="boom")], Ending(True, True, None, "boom")),
        ("ndjson", [line(status="pulling"), line(status="success")], Ending(True, True, None)),
        ("ndjson", [FINAL[:-1]], Ending(True, False, Usage(7, 3, done_reason="stop"))),
        ("ndjson", [TOKEN, b"\n", b"\n"], Ending(False, True, None)),
        ("ndjson", [line(done="true")], Ending(False, True, None)),
        ("ndjson", [line(done=True, done_reason="load")], Ending(True, True, None)),
        ("ndjson", [line(done=True, eval_count=-1, prompt_eval_count=True)], Ending(True, True, None)),
        ("ndjson", [b"\xff\xfe\n"], Ending(False, True, None)),
        ("sse", [OPENAI_USAGE, DONE], Ending(True, True, Usage(7, 3))),
        ("sse", [OPENAI_USAGE + DONE], Ending(True, True, Usage(7, 3))),
        ("sse", [event({"choices": [{"finish_reason": "stop"}]}), DONE], Ending(True, True, Usage(done_reason="stop"))),
        ("sse", [OPENAI_USAGE], Ending(False, True, Usage(7, 3))),
        ("sse", [b"data: [DONE]\n"], Ending(True, False, None)),
        ("sse", [b'data: {"a":1}\r\rdata: [DONE]\r\r'], Ending(True, False, None)),
        ("sse", [b'data: {"a":1}\r\n\rdata: [DONE]\n\r\n'], Ending(True, False, None)),
        ("sse", [event({"error": {"message": "boom"}})], Ending(True, True, None, "boom")),
        (
            "sse",
            [
                event({"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 0}}}),
                event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
                event({"type": "message_stop"}, "message_stop"),
            ],
            Ending(True, True, Usage(7, 3, done_reason="end_turn")),
        ),
        ("sse", [event({"type": "error", "error": {"message": "boom"}}, "error")], Ending(True, True, None, "boom")),
        (
            "sse",
            [event({"type": "response.completed", "response": {"usage": {"input_tokens": 7, "output_tokens": 3}}})],
            Ending(True, True, Usage(7, 3)),
        ),
        ("sse", [event({"type": "response.in_progress", "response": {"usage": None}})], Ending(False, True, None)),
        ("ndjson", [line(error={"message": "boom"})], Ending(True, True, None, "boom")),
        ("ndjson", [line(error=None)], Ending(True, True, None)),
        ("sse", [event({"error": "boom"})], Ending(True, True, None, "boom")),
        ("sse", [event({"error": None, "choices": []})], Ending(False, True, None)),
        ("sse", [b"event: error\ndata: boom\n\n"], Ending(True, True, None, "boom")),
        ("sse", [event({"message": "boom"}, "error")], Ending(True, True, None, "boom")),
        ("sse", [event({"type": "error", "message": "boom"}, "error")], Ending(True, True, None, "boom")),
        ("sse", [event({"type": "error"})], Ending(True, True, None, "an error without a text")),
        (
            "sse",
            [event({"type": "response.failed", "response": {"error": {"message": "boom"}}})],
            Ending(True, True, None, "boom"),
        ),
        ("sse", [event({"type": "response.incomplete", "response": {"error": None}})], Ending(True, True, None)),
        ("json", [b'{"error":"boom"}'], Ending(True, False, None, "boom")),
        ("json", [b'{"error":null,"status":"completed"}'], Ending(True, False, None)),
        ("json", [b'{"error":{"message":"boom"},"status":"failed"}'], Ending(True, False, None, "boom")),
        ("json", [b'{"response":"a","done":false}'], Ending(False, False, None)),
        ("json", [b'{"object":"chat.completion","choices":[{"finish_reason":null}]}'], Ending(False, False, None)),
        (
            "json",
            [b'{"object":"chat.completion","choices":[{"finish_reason":"stop"}]}'],
            Ending(True, False, Usage(done_reason="stop")),
        ),
        ("json", [b'{"type":"message","stop_reason":null}'], Ending(False, False, None)),
        ("json", [b'{"prompt_eval_count":7,"eval_count":3}'], Ending(True, False, Usage(7, 3))),
        ("json", [b'{"done":true,"done_reason":"load"}'], Ending(True, False, Usage(done_reason="load"))),
        ("json", [b'{"embedding":[0.5,0.25]}'], Ending(True, False, None)),
        ("json", [b'{"usage":{"prompt_tokens":7,"comp', b'letion_tokens":3}}'], Ending(True, False, Usage(7, 3))),
        ("json", [b"not json"], Ending(True, False, None)),
        ("other", [b"Ollama is running"], Ending(True, False, None)),
    ],
)
def test_ending(layout: Format, chunks: list[bytes], ending: Ending) -> None:
    assert read(layout, *chunks) == ending


@given(st.integers(0, 90_000), st.data())
def test_the_final_object_is_read_however_long_and_split(length: int, data: st.DataObject) -> None:
    """`context` can make it 300 KB, and cloud models arrive in arbitrary splits."""
    final = line(model="m", done=True, context=[123] * length, prompt_eval_count=7, eval_count=3)
    wire = TOKEN * 3 + final
    cuts = sorted(data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=40, unique=True)))
    chunks = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read("ndjson", *chunks) == Ending(True, True, Usage(7, 3))


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=20), st.sampled_from(["ndjson", "sse", "json", "other"]))
def test_never_raises(chunks: list[bytes], layout: Format) -> None:
    read(layout, *chunks)


def test_a_long_stream_takes_no_memory() -> None:
    tail = Tail("ndjson")
    for _ in range(10_000):
        tail.add(TOKEN)
    assert sum(map(len, tail._records)) == 32 * len(TOKEN)


def test_large_records_leave_no_room_for_many() -> None:
    tail = Tail("sse")
    for _ in range(90):
        tail.add(b"data: " + b"x" * LARGE)
        tail.add(b"\n\n")
    assert sum(map(len, tail._records)) <= 9 * LARGE


BEYOND_REASON: list[tuple[Format, bytes, bytes, Ending]] = [
    (
        "ndjson",
        b'{"done":true,"context":[',
        b'1],"prompt_eval_count":7,"eval_count":3}\n',
        Ending(True, True, Usage(7, 3)),
    ),
    ("ndjson", b'{"done":true,"context":[', b'1],"prompt_eval_count":7', Ending(False, False, None)),
    ("ndjson", b'{"response":[', b"1]}\n", Ending(False, True, None)),
    ("json", b'{"embeddings":[', b'1],"total_duration":9,"prompt_eval_count":7}', Ending(True, False, Usage(7, None))),
    (
        "json",
        b'{"choices":[',
        b'1],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n',
        Ending(True, False, Usage(7, 3)),
    ),
    ("json", b'{"content":[', b'1],"usage":{"input_tokens":7,"output_tokens":3}}', Ending(True, False, Usage(7, 3))),
    ("other", b"", b"", Ending(True, False, None)),
]


@pytest.mark.parametrize(("layout", "start", "end", "ending"), BEYOND_REASON)
def test_a_record_beyond_reason_keeps_its_end(layout: Format, start: bytes, end: bytes, ending: Ending) -> None:
    tail = Tail(layout)
    piece = b"1," * 32_768
    for chunk in (start, *[piece] * 300, end):
        if chunk:
            tail.add(chunk)
        assert tail._open_size <= (LONGEST_RECORD if layout == "ndjson" else LONGEST_JSON) + len(piece)
    assert tail.read() == ending


def test_text_that_looks_like_counts_is_not_taken_for_them() -> None:
    spoof = line(message={"content": '"eval_count":999'}, done=True, eval_count=3, prompt_eval_count=1)
    assert read("ndjson", spoof).usage == Usage(1, 3)
