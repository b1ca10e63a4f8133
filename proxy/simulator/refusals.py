"""Ollama's errors, in the flavor of the route."""

import secrets
from typing import Final, Literal

from proxy.simulator import go_json

Flavor = Literal["ollama", "openai", "anthropic"]

MAX_QUEUE: Final = "server busy, please try again.  maximum pending requests exceeded"
JSON: Final = b"application/json"
JSON_UTF8: Final = b"application/json; charset=utf-8"
TEXT: Final = b"text/plain"

_OPENAI_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


class Refuse(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: Ollama's text.
        early: whether the compatibility layer refused by itself, which shows in the Content-Type.
        chunked: whether it takes the place of a stream that had no record yet, which shows in the framing and, for want
            of a charset, in the Content-Type.
        native: whether it is in Ollama's own flavor on every route, as what the cloud refuses is.
        more: further fields of a native error, such as ``signin_url``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        early: bool = False,
        chunked: bool = False,
        native: bool = False,
        more: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.early = early
        self.chunked = chunked
        self.native = native
        self.more = more or {}


def flavor_of(path: str) -> Flavor:
    """Return whose errors are spoken at `path`."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "openai" if path.startswith("/v1/") else "ollama"


def render(flavor: Flavor, refusal: Refuse) -> tuple[bytes, bytes]:
    """Return (content type, body) of a refusal."""
    status, message = refusal.status, refusal.message
    native = flavor == "ollama" or refusal.native
    kind = JSON_UTF8 if refusal.early or (native and not refusal.chunked) else JSON
    if native:
        return kind, go_json.dumps({"error": message, **refusal.more})
    if flavor == "openai":
        error = {"message": message, "type": _OPENAI_TYPES.get(status, "api_error"), "param": None, "code": None}
        body = go_json.dumps({"error": error})
    else:
        error = {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": message}
        body = go_json.dumps({"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"})
    return kind, body if refusal.early else body + b"\n"


def runner_error(status: int, message: str, kind: str = "invalid_request_error", **more: object) -> str:
    """Return the text of an error of the runner's server, which Ollama passes on as the JSON that it is."""
    return go_json.dumps({"error": {"code": status, "message": message, "type": kind, **more}}).decode()


def not_pulled(name: str) -> Refuse:
    """Return the refusal of a model that is not there, in the words of the routes for embeddings."""
    return Refuse(404, f'model "{name}" not found, try pulling it first')


def not_found(name: str) -> Refuse:
    """Return Ollama's refusal of a model it does not have."""
    return Refuse(404, f"model '{name}' not found")
