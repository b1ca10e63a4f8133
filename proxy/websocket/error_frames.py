"""The frame of an error: the body that the API called gives an error, with what HTTP says beside it."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header, header
from proxy.kernel.errors import ERROR_CODE

_TOLD: Final = (b"retry-after", b"x-should-retry", b"www-authenticate")
"""The fields of an answer that tell a program what to do; a frame has no header, so its error says them."""


def error_document(body: bytes) -> dict[str, Any]:
    """Return the error in the body of an answer as its API writes it; a body that is no JSON object is the message."""
    try:
        document = orjson.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and document.get("error"):
        return document
    return {"error": body.decode("utf-8", "replace").strip() or "the answer is an error without a text"}


def is_error(data: bytes) -> bool:
    """Return whether a line, or the data of an event, is an error."""
    if b'"error"' not in data:
        return False
    try:
        document = orjson.loads(data)
    except ValueError:
        return False
    return isinstance(document, dict) and bool(document.get("error"))


def code_of(document: dict[str, Any], headers: Sequence[Header]) -> str:
    """Return the error's code: that of the proxy's own errors, or the one that a backend wrote, if it wrote one."""
    ours = header(headers, ERROR_CODE)
    if ours is not None:
        return ours.decode("latin-1")
    error = document["error"]
    said = (error if isinstance(error, dict) else document).get("code")
    return said if isinstance(said, str) else codes.UPSTREAM_ERROR


def told(headers: Sequence[Header]) -> dict[str, str]:
    """Return the header fields that a program wants to know of an error."""
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in _TOLD}


def request_error(status: int, headers: Sequence[Header], body: bytes) -> dict[str, Any]:
    """Return the error of a request: the body of its API with ``status``, ``code`` and perhaps ``headers``."""
    document = error_document(body)
    said = {**document, "status": status, "code": code_of(document, headers)}
    fields = told(headers)
    return {**said, "headers": fields} if fields else said


def responses_error(status: int, headers: Sequence[Header], body: bytes) -> dict[str, Any]:
    """Return the error event of OpenAI's Responses API over WebSocket (``ResponseWsError`` of its SDK)."""
    document = error_document(body)
    found = document["error"]
    error = found if isinstance(found, dict) else {"message": str(found)}
    kind = "invalid_request_error" if status < 500 else "server_error"
    said: dict[str, Any] = {
        "type": error.get("type") or kind,
        "code": error.get("code") or code_of(document, headers),
        "message": error.get("message") or "",
        "param": error.get("param"),
    }
    if fields := told(headers):
        said["headers"] = fields
    return {"type": "error", "status": status, "error": said}
