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
        more: further fields of a native error, such as ``signin_url``.
    """

    def __init__(self, status: int, message: str, *, early: bool = False, more: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.early = early
        self.more = more or {}


def flavor_of(path: str) -> Flavor:
    """Return whose errors are spoken at `path`."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "openai" if path.startswith("/v1/") else "ollama"


def render(flavor: Flavor, refusal: Refuse) -> tuple[bytes, bytes]:
    """Return (content type, body) of a refusal."""
    status, message = refusal.status, refusal.message
    kind = JSON_UTF8 if refusal.early or flavor == "ollama" else JSON
    if flavor == "openai":
        error = {"message": message, "type": _OPENAI_TYPES.get(status, "api_error"), "param": None, "code": None}
        body = go_json.dumps({"error": error})
    elif flavor == "anthropic":
        error = {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": message}
        body = go_json.dumps({"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"})
    else:
        return kind, go_json.dumps({"error": message, **refusal.more})
    return kind, body if refusal.early else body + b"\n"


def not_found(name: str) -> Refuse:
    """Return Ollama's refusal of a model it does not have."""
    return Refuse(404, f"model '{name}' not found")
