"""proxy/relay/usage_removal.py: what is left of streams as an Ollama 0.32.15 writes them, however they are cut."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.asgi import Message
from proxy.relay.usage_removal import LONGEST_EVENT, UsageRemoval

ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
COUNTS = {"prompt_tokens": 19, "completion_tokens": 2, "total_tokens": 21}
DONE = b"data: [DONE]\n\n"


def event(members: dict[str, Any], end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(members, separators=(",", ":")).encode() + end


def chat(choices: list[Any], **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "tiny", "choices": choices, **more}


def completion(choices: list[Any], **more: Any) -> dict[str, Any]:
    return {"id": "cmpl-1", "object": "text_completion", "choices": choices, "model": "tiny", **more}


def choice(text: str, reason: str | None = None) -> list[Any]:
    return [{"index": 0, "delta": {"content": text}, "text": text, "finish_reason": reason}]


TEXTS = ['say "usage"', "\n\n", "ü", '{"usage":1}', ""]
STREAMS: dict[str, tuple[list[bytes], list[bytes]]] = {
    "chat": (
        [*(event(chat(choice(text))) for text in TEXTS), event(chat(choice("", "stop"))), DONE],
        [
            *(event(chat(choice(text))) for text in TEXTS),
            event(chat(choice("", "stop"))) + event(chat([], usage=COUNTS)) + DONE,
        ],
    ),
    "completions": (
        [*(event(completion(choice(text))) for text in TEXTS), event(completion(choice("", "length"))), DONE],
        [
            *(event(completion(choice(text), usage=ZEROS)) for text in TEXTS),
            event(completion(choice("", "length"), usage=ZEROS)) + event(completion([], usage=COUNTS)) + DONE,
        ],
    ),
}
"""What the client would have got without token counts, and what the backend sends with them."""


def all_of(chunks: Sequence[bytes], removal: UsageRemoval | None = None) -> list[bytes]:
    removal = removal or UsageRemoval()
    return [*filter(None, map(removal.pass_on, chunks)), *filter(None, [removal.rest()])]


@pytest.mark.parametrize("name", STREAMS)
def test_chunks_stay_as_they_are_without_the_counts(name: str) -> None:
    without, chunks = STREAMS[name]
    *pieces, finish, done = without
    assert all_of(chunks) == [*pieces, finish + done]


@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
def test_any_cut_leaves_the_same(name: str, data: st.DataObject) -> None:
    without, chunks = STREAMS[name]
    end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    stream, left = (b"".join(parts).replace(b"\n", end) for parts in (chunks, without))
    places = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30)))
    cut = [stream[start:stop] for start, stop in zip([0, *places], [*places, len(stream)], strict=True)]
    assert b"".join(all_of(cut)) == left


@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
def test_a_broken_stream_keeps_all_that_came_before(name: str, data: st.DataObject) -> None:
    """The bytes of an event that never ended are those that were held back, and nothing else is missing."""
    stream, left = (b"".join(parts) for parts in (STREAMS[name][1], STREAMS[name][0]))
    broken = stream[: data.draw(st.integers(0, len(stream)))]
    removal = UsageRemoval()
    out, held = removal.pass_on(broken), removal.rest()
    assert left.startswith(out)
    assert broken.endswith(held)
    assert b"\n\n" not in held


def test_what_is_no_event_of_counts_stays() -> None:
    others = [
        event({"error": {"message": "usage", "type": "api_error"}}),
        b": usage\n\n",
        b'data: "usage"\n\n',
        b'data: {"usage": broken\n\n',
        event({"choices": choice("x"), "nested": {"usage": 1}}),
        b'{"usage":1}\n\n',
        event({"choices": []}),
    ]
    assert all_of(others) == others


def test_a_member_goes_with_one_comma() -> None:
    for given_, left in [
        (b'{"usage":null,"choices":[1]}', b'{"choices":[1]}'),
        (b'{"choices":[1], "usage" : {"a":[1,{}]}, "z":2}', b'{"choices":[1], "z":2}'),
        (b'{"choices":[],"usage":null}', b'{"choices":[]}'),
        (b'{"usage":3}', b"{}"),
    ]:
        assert all_of([b"data: " + given_ + b"\n\n"]) == [b"data: " + left + b"\n\n"]


def test_a_long_event_is_not_held() -> None:
    long = event(chat(choice("x" * (3 * LONGEST_EVENT))))
    size = LONGEST_EVENT // 2
    chunks = [long[at : at + size] for at in range(0, len(long), size)]
    removal = UsageRemoval()
    out = [removal.pass_on(chunk) for chunk in chunks]
    assert out[2]
    assert len(removal.rest()) <= LONGEST_EVENT
    assert b"".join(all_of([*chunks, *STREAMS["chat"][1]])) == long + b"".join(STREAMS["chat"][0])


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_length_is_corrected_or_left_out(parts: int) -> None:
    without, chunks = (b"".join(part) for part in STREAMS["completions"])
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    send_rest = UsageRemoval().sending(send)
    length = (b"content-length", b"%d" % len(chunks))
    await send_rest({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b"), length]})
    size = -(-len(chunks) // parts)
    for part in range(parts):
        body = chunks[part * size : (part + 1) * size]
        await send_rest({"type": "http.response.body", "body": body, "more_body": part + 1 < parts})
    headers = [(b"a", b"b"), *([(b"content-length", b"%d" % len(without))] if parts == 1 else [])]
    assert sent[0]["headers"] == headers
    assert b"".join(message["body"] for message in sent[1:]) == without
    assert [message["more_body"] for message in sent[1:]] == [True] * (parts - 1) + [False]
