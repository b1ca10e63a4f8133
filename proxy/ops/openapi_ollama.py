"""The part of the OpenAPI document about the routes that are passed on to Ollama, made from the route table."""

from typing import Any, Final

from proxy.kernel.errors import Flavor
from proxy.kernel.routes import Route

OLLAMA: Final = {
    "/": "Whether Ollama runs",
    "/api/version": "Its version",
    "/api/tags": "The models there are",
    "/api/ps": "The models in memory",
    "/api/status": "What the host can do",
    "/api/experimental/model-recommendations": "Models to try",
    "/api/show": "One model's details",
    "/v1/models": "The models there are",
    "/v1/models/{model}": "One model",
    "/api/generate": "Complete a prompt",
    "/api/chat": "Answer a conversation",
    "/api/embed": "Embed texts",
    "/api/embeddings": "Embed a text (the older form)",
    "/v1/chat/completions": "Answer a conversation",
    "/v1/completions": "Complete a prompt",
    "/v1/responses": "Answer a conversation (Responses API)",
    "/v1/messages": "Answer a conversation (Anthropic's API)",
    "/v1/embeddings": "Embed texts",
    "/v1/audio/transcriptions": "Write down speech",
    "/api/pull": "Get a model from a registry",
    "/api/push": "Put a model into a registry",
    "/api/create": "Make a model from another",
    "/api/copy": "Give a model another name",
    "/api/delete": "Delete a model",
    "/api/blobs/{digest}": "A file of a model",
    "/api/me": "The account that the host is signed in with",
    "/api/signout": "Sign the host out of its account",
    "/api/user/keys/{key}": "Remove a key of the account",
    "/api/experimental/web_search": "Search the web on the account",
    "/api/experimental/web_fetch": "Fetch a page on the account",
}
"""What each route of Ollama is for."""

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
    """Return one operation."""
    ok: dict[str, Any] = {"description": "Ollama's answer, unchanged."}
    if method != "HEAD":
        ok["content"] = {"application/json" if route.flavor != "text" else "text/plain": {}}
        if route.stream is not None:
            ok["content"][_STREAMS[route.flavor]] = {}
    found: dict[str, Any] = {
        "tags": [route.kind],
        "summary": OLLAMA.get(route.path, "A route of another version of Ollama"),
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
    """Return the answers that any route may give instead, in the words of its API."""
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
