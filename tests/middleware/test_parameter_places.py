"""middleware/parameter_places.py."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.parameter_places import ROUTES, places, read_lifetime, read_number, write_lifetime
from middleware.parameter_rules import FOREVER
from proxy.routes import OLLAMA


def paths(route: str, parameter: str) -> list[str]:
    return [".".join(place.path) for place in places(route, parameter)]


@pytest.mark.parametrize(
    ("route", "parameter", "found"),
    [
        ("/api/chat", "num_ctx", ["options.num_ctx"]),
        ("/api/generate", "num_predict", ["options.num_predict"]),
        ("/api/embed", "num_ctx", ["options.num_ctx"]),
        ("/api/embed", "num_predict", []),
        ("/api/embeddings", "keep_alive", ["keep_alive"]),
        ("/api/chat", "keep_alive", ["keep_alive"]),
        ("/api/chat", "think", ["think"]),
        ("/api/embed", "think", []),
        ("/api/chat", "n", []),
        ("/api/chat", "num_gpu", ["options.num_gpu"]),
        ("/v1/chat/completions", "num_predict", ["max_tokens", "max_completion_tokens"]),
        ("/v1/chat/completions", "temperature", ["temperature"]),
        ("/v1/chat/completions", "think", ["reasoning_effort", "reasoning.effort"]),
        ("/v1/chat/completions", "n", ["n"]),
        ("/v1/chat/completions", "num_ctx", []),
        ("/v1/chat/completions", "keep_alive", []),
        ("/v1/completions", "num_predict", ["max_tokens"]),
        ("/v1/responses", "num_predict", ["max_output_tokens"]),
        ("/v1/responses", "think", ["reasoning.effort"]),
        ("/v1/messages", "num_predict", ["max_tokens"]),
        ("/v1/messages", "top_k", ["top_k"]),
        ("/v1/messages", "stop", ["stop_sequences"]),
        ("/v1/messages", "think", ["thinking.type", "output_config.effort"]),
    ],
)
def test_where_a_parameter_stands(route: str, parameter: str, found: list[str]) -> None:
    assert paths(route, parameter) == found


def test_the_routes_are_ollamas() -> None:
    known = {route.path for route in OLLAMA if route.kind == "inference" and route.body == "json"}
    assert set(ROUTES) == known - {"/v1/embeddings"}  # which has no parameter of these


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0), (600, 600), (0.5, 0.5), (-1, FOREVER), (-0.5, FOREVER), (-0.0, 0),
        ("0", 0), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), (".5s", 0.5), ("5.s", 5), ("100ms", 0.1), ("+1m", 60),
        ("2us", 2e-6), ("2\u00b5s", 2e-6), ("2\u03bcs", 2e-6), ("3ns", 3e-9), ("-1s", FOREVER), ("-0s", 0),
        ("-1ns", FOREVER), ("1s1m1s", 62),
    ],
)  # fmt: skip
def test_lifetimes_are_read_as_go_reads_durations(value: Any, seconds: float) -> None:
    assert math.isclose(read_lifetime(value), seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "-5",
        ".s",
        "1d",
        "1 m",
        " 1m",
        "1m ",
        "m",
        "1M",
        "1e3s",
        "--1s",
        "1m-1s",
        "٣s",
        "1s" * 99,
        True,
        [],
        {},
        "0 ",
    ],
)
def test_what_is_no_lifetime(value: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_lifetime(value)


@pytest.mark.parametrize(
    ("value", "written"), [(600.0, 600), (0.0, 0), (0.25, "250ms"), (1.5, "1500ms"), (FOREVER, -1), ("forever", -1)]
)
def test_lifetimes_are_written(value: Any, written: Any) -> None:
    assert write_lifetime(value) == written
    assert read_lifetime(written) == (FOREVER if written == -1 else value)


@given(st.floats(0, 10**7).map(lambda seconds: round(seconds, 3)))
def test_what_is_written_is_read_again(seconds: float) -> None:
    assert math.isclose(read_lifetime(write_lifetime(seconds)), seconds, abs_tol=1e-3)


@pytest.mark.parametrize("value", [True, "1", None, [1]])
def test_numbers_are_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        read_number(value)
    assert read_number(1.5) == 1.5


@pytest.mark.parametrize(
    ("route", "value", "read", "written"),
    [
        ("/v1/chat/completions", "none", False, "none"),
        ("/v1/chat/completions", "high", "high", "high"),
        ("/v1/chat/completions", "medium", "medium", "medium"),
        ("/v1/responses", "low", "low", "low"),
        ("/v1/messages", "enabled", True, "enabled"),
        ("/v1/messages", "disabled", False, "disabled"),
        ("/api/chat", True, True, True),
        ("/api/chat", "low", "low", "low"),
    ],
)
def test_thinking_has_a_language_for_each_api(route: str, value: Any, read: Any, written: Any) -> None:
    place = places(route, "think")[0]
    assert (place.read(value), place.write(read)) == (read, written)


def test_thinking_where_there_are_only_levels() -> None:
    assert places("/v1/responses", "think")[0].write(True) == "medium"
    assert places("/v1/messages", "think")[0].write("low") == "enabled"
    with pytest.raises(ValueError, match="text"):
        places("/v1/responses", "think")[0].read(True)


@pytest.mark.parametrize("value", ["adaptive", "Enabled", "", True, None])
def test_a_type_of_thinking_that_ollama_does_not_know_says_nothing(value: Any) -> None:
    assert places("/v1/messages", "think")[0].read(value) is None


def test_finding_and_putting() -> None:
    place = places("/api/chat", "num_ctx")[0]
    assert place.find({"options": {"num_ctx": 8}}) == 8
    assert place.find({"options": None}) is None
    assert place.find({}) is None
    with pytest.raises(ValueError, match="options to be an object"):
        place.find({"options": [1]})
    patch: dict[str, Any] = {"options": {"seed": 1}}
    place.put(patch, 9)
    assert patch == {"options": {"seed": 1, "num_ctx": 9}}
