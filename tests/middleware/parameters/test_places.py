"""middleware/parameters/places.py."""

from typing import Any

import pytest

from middleware.parameters.places import ROUTES, RUNNER, places
from proxy.kernel.routes import OLLAMA


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
        ("/api/generate", "shift", ["shift"]),
        ("/api/embed", "shift", []),
        ("/v1/chat/completions", "shift", []),
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
    ("route", "value", "read", "written"),
    [
        ("/v1/chat/completions", "none", False, "none"),
        ("/v1/chat/completions", "high", "high", "high"),
        ("/v1/chat/completions", "medium", "medium", "medium"),
        ("/v1/responses", "low", "low", "low"),
        ("/v1/responses", "", None, "none"),
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
    place.put(patch, None)
    assert patch == {"options": {"seed": 1, "num_ctx": None}}


@pytest.mark.parametrize(
    ("route", "parameter", "value", "read"),
    [
        # options are doubles that are cut off, fields are whole numbers
        ("/api/chat", "num_predict", 0.5, 0),
        ("/api/chat", "num_gpu", 1.9, 1),
        ("/api/embed", "num_thread", -0.5, 0),
        ("/v1/chat/completions", "num_predict", 0.5, None),
        ("/v1/chat/completions", "seed", 1e3, None),
        ("/v1/completions", "num_predict", 5.0, None),
        ("/v1/responses", "num_predict", 0.5, None),
        ("/v1/messages", "num_predict", 0.5, None),
        ("/v1/messages", "top_k", 4.5, None),
        ("/v1/messages", "top_k", 4, 4),
        ("/api/chat", "temperature", 0.5, 0.5),
        ("/v1/messages", "temperature", 0.5, 0.5),
        ("/api/chat", "temperature", "hot", None),
        ("/api/chat", "use_mmap", 1, None),
        ("/api/chat", "use_mmap", True, True),
        ("/api/chat", "shift", "no", None),
        ("/api/chat", "stop", "x", None),
        ("/api/chat", "stop", ["x"], "x"),
        ("/api/chat", "stop", ["x", 1], None),
        ("/v1/chat/completions", "stop", "x", "x"),
        ("/v1/messages", "stop", ["x", "y"], ("x", "y")),
        ("/api/chat", "no_such_option", [1], [1]),
    ],
)
def test_a_value_is_what_ollama_makes_of_it(route: str, parameter: str, value: Any, read: Any) -> None:
    place = places(route, parameter)[0]
    if read is None:
        with pytest.raises(ValueError, match="must be"):
            place.read(value)
    else:
        assert place.read(value) == read


@pytest.mark.parametrize("name", RUNNER)
def test_every_option_of_the_runner_has_a_type(name: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        places("/api/chat", name)[0].read("x")
