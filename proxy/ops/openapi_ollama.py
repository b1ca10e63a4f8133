"""The part of the OpenAPI document about the routes that are passed on to Ollama, made from the route table."""

from typing import Any, Final

from proxy.kernel.errors import Flavor
from proxy.kernel.route import Route

_STREAMS: Final[dict[Flavor, str]] = {
    "ollama": "application/x-ndjson",
    "openai": "text/event-stream",
    "anthropic": "text/event-stream",
    "text": "text/plain",
}
_HEADERS: Final = {
    "X-Error-Code": {
        "description": "The error's code, where the proxy made the error.",
        "schema": {"type": "string"},
    }
}
_BODIES: Final = {"json": "application/json", "multipart": "multipart/form-data", "raw": "application/octet-stream"}


def passed_on(route: Route, method: str) -> dict[str, Any]:
    """Return the OpenAPI operation of a route and a method."""
    ok: dict[str, Any] = {"description": "Ollama's body as it came, or a list made of those of all backends."}
    if method != "HEAD":
        ok["content"] = {"application/json" if route.flavor != "text" else "text/plain": {}}
        if route.stream is not None:
            ok["content"][_STREAMS[route.flavor]] = {}
    found: dict[str, Any] = {
        "tags": [route.kind],
        "summary": route.summary,
        "responses": {"200": ok, **errors(route.flavor, open=route.open)},
    }
    if route.stream is not None:
        found["description"] = (
            "Streams unless `stream` is false." if route.stream else "Streams where `stream` is true."
        )
    _, brace, rest = route.path.partition("{")
    names = [("path", rest.rstrip("}"))] if brace else []
    names += [("query", name) for name in route.query]
    parameters = [
        {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}} for place, name in names
    ]
    if parameters:
        found["parameters"] = parameters
    if route.body != "none" and method not in ("GET", "HEAD"):
        schema: dict[str, Any] = {"type": "string", "format": "binary"}
        if route.body != "raw":
            properties: dict[str, Any] = {name: {"type": "string"} for name in route.models}
            if route.stream is not None:
                properties["stream"] = {"type": "boolean", "default": route.stream}
            schema = {"type": "object", "properties": properties}
        found["requestBody"] = {"content": {_BODIES[route.body]: {"schema": schema}}}
    if route.open:
        found["security"] = []
    return found


def errors(flavor: Flavor, *, open: bool) -> dict[str, Any]:
    """Return the error responses that any route may give, with the schema of its API."""
    schema = {"ollama": "Error", "openai": "OpenAIError", "anthropic": "AnthropicError"}.get(flavor)
    media: dict[str, Any] = (
        {"text/plain": {"schema": {"type": "string"}}}
        if schema is None
        else {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    )
    known = (
        {} if open else {"401": "No key, or one that is not valid.", "403": "The caller's policy does not allow it."}
    )
    return {
        status: {"description": text, "headers": _HEADERS, "content": media}
        for status, text in {**known, "default": "An error."}.items()
    }
