"""middleware/parameters/accessors.py."""

from typing import Any

import pytest

from middleware.parameters.accessors import RUNNER, put, read, write
from proxy.kernel.parameter_places import Place
from proxy.kernel.routes import known_route


def places(route: str, parameter: str) -> tuple[Place, ...]:
    found = known_route(route)
    assert found is not None
    assert found.run is not None
    assert found.run.parameters is not None
    return found.run.parameters.places(parameter)


@pytest.mark.parametrize(
    ("route", "value", "meant", "written"),
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
def test_thinking_has_a_language_for_each_api(route: str, value: Any, meant: Any, written: Any) -> None:
    place = places(route, "think")[0]
    assert (read(place, value), write(place, meant)) == (meant, written)


def test_thinking_where_there_are_only_levels() -> None:
    assert write(places("/v1/responses", "think")[0], True) == "medium"
    assert write(places("/v1/messages", "think")[0], "low") == "enabled"
    with pytest.raises(ValueError, match="text"):
        read(places("/v1/responses", "think")[0], True)


@pytest.mark.parametrize("value", ["adaptive", "Enabled", "", True, None])
def test_a_type_of_thinking_that_ollama_does_not_know_says_nothing(value: Any) -> None:
    assert read(places("/v1/messages", "think")[0], value) is None


def test_putting() -> None:
    place = places("/api/chat", "num_ctx")[0]
    patch: dict[str, Any] = {"options": {"seed": 1}}
    put(place, patch, 9)
    assert patch == {"options": {"seed": 1, "num_ctx": 9}}
    put(place, patch, None)
    assert patch == {"options": {"seed": 1, "num_ctx": None}}


@pytest.mark.parametrize(
    ("route", "parameter", "value", "meant"),
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
def test_a_value_is_what_ollama_makes_of_it(route: str, parameter: str, value: Any, meant: Any) -> None:
    place = places(route, parameter)[0]
    if meant is None:
        with pytest.raises(ValueError, match="must be"):
            read(place, value)
    else:
        assert read(place, value) == meant


@pytest.mark.parametrize("name", RUNNER)
def test_every_option_of_the_runner_has_a_type(name: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        read(places("/api/chat", name)[0], "x")
