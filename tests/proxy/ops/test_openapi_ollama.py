"""proxy/ops/openapi_ollama.py."""

from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.ops.openapi_ollama import errors, passed_on


def route(path: str, method: str) -> Route:
    return next(route for route in OLLAMA if route.path == path and method in route.methods)


def test_every_route_of_ollama_has_a_summary_of_its_own() -> None:
    assert all(route.summary and "another version" not in route.summary for route in OLLAMA)


def test_a_route_that_streams() -> None:
    chat = passed_on(route("/api/chat", "POST"), "POST")
    assert chat["description"] == "Streams unless `stream` is false."
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "application/x-ndjson"}
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"] == {"model": {"type": "string"}, "stream": {"type": "boolean", "default": True}}


def test_a_route_with_something_in_its_path_and_one_with_a_query() -> None:
    assert [part["name"] for part in passed_on(route("/v1/models/{model}", "GET"), "GET")["parameters"]] == ["model"]
    (query,) = passed_on(route("/v1/audio/transcriptions", "POST"), "POST")["parameters"]
    assert (query["name"], query["in"], query["required"]) == ("model", "query", False)


def test_what_has_no_body_has_none() -> None:
    head = passed_on(route("/api/blobs/{digest}", "HEAD"), "HEAD")
    assert "requestBody" not in head
    assert "content" not in head["responses"]["200"]
    blob = passed_on(route("/api/blobs/{digest}", "POST"), "POST")
    assert list(blob["requestBody"]["content"]) == ["application/octet-stream"]


def test_errors_are_said_in_the_words_of_the_api() -> None:
    for flavor, name in (("ollama", "Error"), ("openai", "OpenAIError"), ("anthropic", "AnthropicError")):
        schema = errors(flavor, open=False)["401"]["content"]["application/json"]["schema"]  # type: ignore[arg-type]  # of a table
        assert schema["$ref"].endswith(f"/{name}")
    assert list(errors("text", open=True)) == ["default"]


def test_a_route_of_a_configuration_is_described_by_what_is_known() -> None:
    extra = passed_on(Route("/v1/images", ("POST",), "inference", "openai", body="multipart"), "POST")
    assert extra["summary"] == "A route of another version of Ollama"
    assert list(extra["requestBody"]["content"]) == ["multipart/form-data"]
