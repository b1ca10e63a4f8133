import json
import re
from typing import Any

import pytest

from proxy.simulator.generation_job import Job, Piece, compose, read_keep_alive, read_think, read_tools, timestamp
from proxy.simulator.go_json import BadJSON
from proxy.simulator.refusals import Refuse
from proxy.simulator.settings import Model, Settings

PLAIN = Model.of("llama3.2")
THINKER = Model.of("qwen3")
TOOL = ("weather", {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}})


def said(settings: Settings, model: Model = PLAIN, **job: Any) -> tuple[list[Piece], str]:
    speech = compose(settings, "key", model, Job(**{"model": "m", "prompt": "why?", "stream": True, **job}))
    pieces = list(speech.pieces)
    assert len(pieces) == speech.count
    return pieces, speech.reason


@pytest.mark.parametrize(
    ("limit", "count", "reason"),
    [(None, 24, "stop"), (1, 1, "length"), (10, 10, "length"), (24, 24, "length"), (300, 300, "length"),
     (0, 24, "stop"), (-1, 24, "stop"), (5000, 1000, "stop")],
)  # fmt: skip
def test_the_limit_sets_the_length(limit: int | None, count: int, reason: str) -> None:
    pieces, why = said(Settings(max_tokens=1000), limit=limit)
    assert (len(pieces), why) == (count, reason)


def test_replies_are_deterministic() -> None:
    assert said(Settings()) == said(Settings())
    assert said(Settings()) != said(Settings(seed=1))
    assert said(Settings(), limit=100)[0][:24] == said(Settings())[0]


def test_thinkers_think_first_unless_told_not_to() -> None:
    settings = Settings(tokens=4, thinking_tokens=2)
    assert [piece.kind for piece in said(settings, THINKER)[0]] == ["thinking"] * 2 + ["content"] * 4
    assert [piece.kind for piece in said(settings, THINKER, think=False)[0]] == ["content"] * 4
    assert [piece.kind for piece in said(settings, THINKER, limit=1)[0]] == ["thinking"]
    assert [piece.kind for piece in said(settings, PLAIN)[0]] == ["content"] * 4


def test_the_first_tool_is_called_until_it_has_answered() -> None:
    pieces, reason = said(Settings(), tools=[TOOL, ("other", {})])
    (piece,) = pieces
    assert piece.call is not None
    assert (piece.call.name, set(piece.call.arguments), reason) == ("weather", {"city", "days"}, "stop")
    assert re.fullmatch(r"call_[a-z0-9]{8}", piece.call.id)
    assert all(piece.kind == "content" for piece in said(Settings(), tools=[TOOL], answered_tool=True)[0])
    assert all(piece.kind == "content" for piece in said(Settings(call_tools=False), tools=[TOOL])[0])


def test_formats_are_kept() -> None:
    pieces, reason = said(Settings(), format={"type": "object", "properties": {"age": {"type": "integer"}}})
    assert isinstance(json.loads("".join(piece.text for piece in pieces))["age"], int)
    assert reason == "stop"
    assert said(Settings(), format="json", limit=2)[1] == "length"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (0, 0.0), (-1, -1.0), (1.5, 1.0), (0.9, 0.0), (-0.5, -1.0),
     ("5m", 300.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("-1s", -1.0),
     ("0", 0.0), ("100ms", 0.1)],
)  # fmt: skip
def test_keep_alive(value: object, seconds: float | None) -> None:
    assert read_keep_alive(value) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("m", 'time: invalid duration "m"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("1h5x", 'time: unknown unit "x" in duration "1h5x"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_bad_keep_alive(value: object, message: str) -> None:
    with pytest.raises(Refuse) as caught:
        read_keep_alive(value)
    assert (caught.value.status, caught.value.message) == (400, message)


def test_think() -> None:
    assert [read_think(value) for value in (None, True, False, "low", "max")] == [None, True, False, True, True]
    with pytest.raises(Refuse):
        read_think("a lot")


def test_tools_are_named_and_have_a_schema() -> None:
    item = [("Type", "function"), ("function", [("name", "f"), ("parameters", [("type", "object")])])]
    assert read_tools([item], "R.tools") == [("f", {"type": "object"})]
    with pytest.raises(BadJSON, match=r"string into Go struct field R\.tools of type api\.Tool$"):
        read_tools(["f"], "R.tools")


def test_images_count_as_tokens() -> None:
    assert Job("m", "two words", stream=True).prompt_tokens == 2
    assert Job("m", "", stream=True, images=2).prompt_tokens == 513


def test_timestamps_are_go_s() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", timestamp())
