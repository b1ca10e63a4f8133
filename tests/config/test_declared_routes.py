"""config/declared_routes.py."""

from typing import Any

import pytest

from config.declared_routes import ExtraRoute
from tests.support.policy import load_text

BACKEND = "backends: [{name: a, url: 'http://127.0.0.1:1', slots: 1}]\n"

NO_KIND = (
    "2:10: routes[0]: does not say what it is "
    "(say which known route it is like, or its kind: read, inference, manage or account)"
)
NO_SLOT = (
    "2:10: routes[0]: takes no slot of a backend: it does not say where its model is named "
    "(say which known route it is like, or list the members that name a model in models)"
)
ITSELF = "2:51: routes[0].like: must be left out: /api/chat is a known route itself"


def no_model(known: str, said: bool) -> str:
    return (
        f"routes[0]{'.models' if said else ''}: names no model, but it is like {known}, which names one "
        f"({'list the members that name a model in models' if said else 'end the path in {model}'})"
    )


def problems(route: str) -> list[str]:
    found = load_text(f"{BACKEND}routes: [{route}]\n", env={}).problems
    return [str(problem).removeprefix("proxy.yaml:") for problem in found]


def extra(**said: Any) -> ExtraRoute:
    return ExtraRoute.model_validate(said)


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ("{path: /v2/chat, methods: [POST], like: /api/chat}", []),
        ("{path: /api/chat, methods: [POST], stream: false}", []),
        ("{path: /v1/images, methods: [POST], kind: inference, body: json, models: [model]}", []),
        ("{path: /v1/images, methods: [POST], kind: inference, body: multipart}", []),
        ("{path: '/v2/chat/{model}', methods: [POST], kind: inference}", []),
        ("{path: /x, methods: [GET], kind: read}", []),
        (
            "{path: /v2/chat, methods: [POST], like: /api/chta}",
            ["2:50: routes[0].like: there is no route /api/chta of Ollama here (did you mean '/api/chat'?)"],
        ),
        (
            "{path: /v2/chat, methods: [POST]}",
            [NO_KIND],
        ),
        (
            "{path: /api/chat, methods: [GET]}",
            [NO_KIND],
        ),
        (
            "{path: /v1/images, methods: [POST], kind: inference, body: json}",
            [NO_SLOT],
        ),
        (
            "{path: /-/x, methods: [GET], kind: read}",
            ["2:17: routes[0].path: belongs to the proxy itself: paths below /-/ and /k/ reach no backend"],
        ),
        (
            "{path: '/k/{x}', methods: [GET], kind: read}",
            ["2:17: routes[0].path: belongs to the proxy itself: paths below /-/ and /k/ reach no backend"],
        ),
        (
            "{path: /v2/chat, methods: [POST], like: /api/chat, kind: read}",
            ["2:67: routes[0].kind: must be inference: it is like /api/chat, which runs a model"],
        ),
        (
            "{path: /api/chat, methods: [POST], kind: read, body: none}",
            ["2:51: routes[0].kind: must be inference: it is like /api/chat, which runs a model"],
        ),
        (
            "{path: /v2/chat, methods: [POST], like: /api/chat, body: raw, repeat: safe}",
            ["2:80: routes[0].repeat: must be never: a raw body is gone once it was sent"],
        ),
        ("{path: '/v2/pull/{model}', methods: [POST], like: /api/pull}", []),
        (
            "{path: '/v2/a/{model}', methods: [POST], like: /api/pull, models: []}",
            [f"2:76: {no_model('/api/pull', True)}"],
        ),
        ("{path: /v2/me, methods: [POST], like: /api/me, models: []}", []),
        ("{path: /v2/pull, methods: [POST], like: /api/pull, models: []}", [f"2:69: {no_model('/api/pull', True)}"]),
        ("{path: /v2/show, methods: [POST], like: /api/show, models: []}", [f"2:69: {no_model('/api/show', True)}"]),
        ("{path: /v2/chat, methods: [POST], like: /api/chat, models: []}", [f"2:69: {no_model('/api/chat', True)}"]),
        ("{path: /api/pull, methods: [POST], models: []}", [f"2:53: {no_model('/api/pull', True)}"]),
        (
            "{path: /v2/model, methods: [GET], like: '/v1/models/{model}'}",
            [f"2:10: {no_model('/v1/models/{model}', False)}"],
        ),
        ("{path: /api/chat, methods: [POST], like: /api/chat, models: [model, draft], body: json}", []),
        ("{path: /api/chat, methods: [GET], like: /api/tags}", []),
        ("{path: '/v1/models/{id}', methods: [DELETE], like: /api/delete}", []),
        ("{path: /api/chat, methods: [POST], like: /api/tags}", [ITSELF]),
        ("{path: /api/chat, methods: [GET, POST], like: /api/tags}", [ITSELF.replace("2:51", "2:56")]),
        ("{path: /api/chat, methods: [POST], like: /api/show, kind: read}", [ITSELF]),
        ("{path: /api/chat, methods: [POST], like: /v1/embeddings}", [ITSELF]),
        (
            "{path: /api/chat, methods: [POST], parameters: none}",
            ["2:57: routes[0].parameters: must be left out: requests of /api/chat have parameters"],
        ),
        ("{path: /v1/embeddings, methods: [POST], parameters: none}", []),
        (
            "{path: /api/pull, methods: [POST], models: [name], body: none}",
            [
                "2:53: routes[0].models: must hold model, name: requests of /api/pull name their model there",
                "2:67: routes[0].body: must be json, as it is for /api/pull",
            ],
        ),
    ],
)
def test_what_may_be_declared(route: str, found: list[str]) -> None:
    assert problems(route) == found


def test_only_what_is_said_goes_before_the_known_route() -> None:
    route = extra(path="/v2/chat", methods=("POST",), like="/api/chat", stream=False).route
    assert (route.stream, route.body, route.models, route.repeat, route.kind) == (
        *(False, "json", ("model",), "costly", "inference"),
    )
    plain = extra(path="/v2/chat", methods=("POST",), like="/api/chat", kind=None, flavor=None, parameters=None).route
    assert (plain.kind, plain.flavor) == ("inference", "ollama")


def test_a_route_that_is_like_none_is_as_it_says() -> None:
    route = extra(path="/v1/x", methods=("POST",), kind="inference", body="json", models=("engine",)).route
    assert (route.kind, route.flavor, route.models, route.like) == ("inference", "openai", ("engine",), None)
