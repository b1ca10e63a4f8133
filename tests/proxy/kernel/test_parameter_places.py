"""proxy/kernel/parameter_places.py; how values are read there stands in middleware/parameters/test_places.py."""

from typing import Any

import pytest

from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.parameter_places import CHAT, CHAT_COMPLETIONS, KNOWN, NONE, ParameterPlaces
from proxy.kernel.routes import known_route


def parameters_of(route: str) -> ParameterPlaces:
    found = known_route(route)
    assert found is not None
    assert found.run is not None
    assert found.run.parameters is not None
    return found.run.parameters


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
    assert [".".join(place.path) for place in parameters_of(route).places(parameter)] == found


def test_every_route_that_runs_a_model_says_where_its_parameters_are() -> None:
    runs = [route.run for route in OLLAMA if route.kind == "inference"]
    assert all(run is not None and run.parameters is not None for run in runs)
    assert {run.parameters for run in runs if run is not None} == {*KNOWN, NONE}
    assert [route.path for route in OLLAMA if route.run is not None and route.run.parameters is NONE] == [
        "/v1/embeddings",
        "/v1/audio/transcriptions",
    ]
    assert not NONE.any
    assert all(parameters.any for parameters in KNOWN)


def test_finding() -> None:
    place = CHAT.places("num_ctx")[0]
    assert place.find({"options": {"num_ctx": 8}}) == 8
    assert place.find({"options": None}) is None
    assert place.find({}) is None
    with pytest.raises(ValueError, match="options to be an object"):
        place.find({"options": [1]})


@pytest.mark.parametrize(
    ("parameters", "document", "bound"),
    [
        (CHAT, {"options": {"num_predict": 9.9}}, 9),
        (CHAT, {"options": {"num_predict": 0.5}}, None),
        (CHAT, {"options": [9]}, None),
        (CHAT, {"max_tokens": 9}, None),
        (CHAT_COMPLETIONS, {"max_tokens": 9, "max_completion_tokens": 99}, 9),
        (CHAT_COMPLETIONS, {"max_completion_tokens": 99}, None),  # Ollama does not read it
        (CHAT_COMPLETIONS, {"max_tokens": True}, None),
        (NONE, {"max_tokens": 9}, None),
    ],
)
def test_the_bound_of_an_answer(parameters: ParameterPlaces, document: dict[str, Any], bound: int | None) -> None:
    assert parameters.bound(document) == bound
