import json
from typing import Any

import pytest

from proxy.simulator.refusals import Flavor, Refuse, flavor_of, not_found, render


@pytest.mark.parametrize(
    ("path", "flavor"),
    [
        ("/api/chat", "ollama"),
        ("/", "ollama"),
        ("/nowhere", "ollama"),
        ("/v1/chat/completions", "openai"),
        ("/v1/models/x", "openai"),
        ("/v1/messages", "anthropic"),
    ],
)
def test_each_path_has_its_flavor(path: str, flavor: str) -> None:
    assert flavor_of(path) == flavor


@pytest.mark.parametrize(
    ("flavor", "status", "body"),
    [
        ("ollama", 404, {"error": "no"}),
        ("openai", 400, {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}),
        ("openai", 404, {"error": {"message": "no", "type": "not_found_error", "param": None, "code": None}}),
        ("openai", 503, {"error": {"message": "no", "type": "api_error", "param": None, "code": None}}),
        ("anthropic", 503, {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
        ("anthropic", 500, {"type": "error", "error": {"type": "api_error", "message": "no"}}),
    ],
)
def test_errors_by_flavor(flavor: Flavor, status: int, body: dict[str, Any]) -> None:
    _, data = render(flavor, Refuse(status, "no"))
    got = json.loads(data)
    got.pop("request_id", None)
    assert got == body


def test_the_content_type_tells_which_layer_refused() -> None:
    assert render("openai", Refuse(400, "no", early=True))[0] == b"application/json; charset=utf-8"
    assert render("openai", Refuse(404, "no"))[0] == b"application/json"
    assert render("ollama", Refuse(404, "no"))[0] == b"application/json; charset=utf-8"


def test_native_errors_may_say_more() -> None:
    refusal = Refuse(401, "unauthorized", more={"signin_url": "https://x"})
    assert json.loads(render("ollama", refusal)[1]) == {"error": "unauthorized", "signin_url": "https://x"}


def test_a_missing_model() -> None:
    assert (not_found("x").status, not_found("x").message) == (404, "model 'x' not found")
