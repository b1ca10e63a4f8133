"""proxy/background/response_events.py."""

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import ResponseFailedEvent

from proxy.background.response_events import Events, failed_event, renamed
from proxy.background.response_object import response_object
from tests.proxy.background.test_response_object import ENTRY

OURS = "resp_" + "a" * 32
RECORDED = Path(__file__).parents[2] / "recorded" / "ollama.jsonl"


def recorded_streams() -> list[bytes]:
    """Return the streams that a real Ollama answered to /v1/responses, with numbers for what was left out of them."""
    found = []
    for line in RECORDED.read_text("utf-8").splitlines():
        case = json.loads(line)
        if case["request"]["path"] == "/v1/responses" and "event-stream" in case["headers"].get("content-type", ""):
            text = "".join(chunk for _, chunk in case["chunks"])
            found.append(text.replace('"resp_#"', '"resp_123456"').replace(":#", ":1").encode())
    return found


STREAMS = recorded_streams()


def numbers(events: bytes) -> list[int]:
    return [json.loads(line[5:])["sequence_number"] for line in events.splitlines() if line.startswith(b"data:")]


def test_there_are_recorded_streams() -> None:
    assert len(STREAMS) > 3


@pytest.mark.parametrize("record", STREAMS)
def test_nothing_but_the_id_is_changed(record: bytes) -> None:
    events = Events(OURS)
    sent = events.feed(record)
    assert sent.replace(OURS.encode(), b"resp_123456") == record
    assert b'"id":"resp_123456"' not in sent


@pytest.mark.parametrize("record", STREAMS)
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_events_are_the_same_however_they_are_cut(record: bytes, step: int) -> None:
    whole, cut = Events(OURS, 2), Events(OURS, 2)
    pieces = (record[at : at + step] for at in range(0, len(record), step))
    assert b"".join(cut.feed(piece) for piece in pieces) == whole.feed(record)
    assert (cut.last, cut.whole) == (whole.last, whole.whole)


@pytest.mark.parametrize("record", STREAMS)
def test_events_go_on_behind_a_number(record: bytes) -> None:
    everything = numbers(Events(OURS).feed(record))
    for after in (0, everything[len(everything) // 2], everything[-1], 10**9):
        assert numbers(Events(OURS, after).feed(record)) == [number for number in everything if number > after]


def event(**members: Any) -> bytes:
    return b"event: x\ndata: " + json.dumps(members).encode() + b"\n\n"


def test_a_text_that_looks_like_the_id_is_left_alone() -> None:
    text = 'the "id":"resp_1" of it, and "id": "resp_1"'
    created = event(type="response.created", sequence_number=0, response={"id": "resp_1", "output": [], "text": text})
    sent = Events(OURS).feed(created)
    assert json.loads(sent.split(b"data: ")[1])["response"] == {"id": OURS, "output": [], "text": text}


def test_the_last_event_holds_the_object() -> None:
    events = Events(OURS)
    events.feed(event(type="response.created", sequence_number=0, response={"id": "resp_1"}))
    assert (events.last, events.whole) == (0, None)
    events.feed(b'data: {"response": {"id": "resp_1" ,"n":1.50},"type":"response.completed","sequence_number":9}\n\n')
    assert (events.last, events.whole) == (9, b'{"id": "' + OURS.encode() + b'" ,"n":1.50}')


def test_comments_and_broken_events_are_passed_on_to_who_wants_all() -> None:
    assert Events(OURS).feed(b": ping\n\ndata: {\n\n") == b": ping\n\ndata: {\n\n"
    assert Events(OURS, 0).feed(b": ping\n\ndata: {\n\n") == b""


def test_a_whole_object_is_renamed() -> None:
    assert renamed(b'{"id" : "resp_9","x":1}\n', OURS) == b'{"id" : "' + OURS.encode() + b'","x":1}\n'
    assert renamed(b'{"x":1}', OURS) == b'{"x":1}'


def test_the_event_of_a_failure_is_the_sdks() -> None:
    sent = failed_event(response_object(ENTRY, {}, "failed", why="it broke"), 7)
    found = ResponseFailedEvent.model_validate(json.loads(sent.split(b"data: ")[1]), strict=True)
    assert (found.sequence_number, found.response.status) == (7, "failed")
