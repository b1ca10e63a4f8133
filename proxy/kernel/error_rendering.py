"""The form of an error in each API flavor: status, headers and body, or one record of a running stream.

Where Ollama makes the error as well (`error_codes.OLLAMAS_OWN`), the body is Ollama's to the byte: the members, their
order, and the line feed at the end that its handlers write and its readers of requests do not. Where only the proxy
makes it, the body also has the error's code.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from proxy.kernel.asgi import Header
from proxy.kernel.error_codes import FINAL, OLLAMAS_OWN, PREVIOUS_RESPONSE_NOT_FOUND
from proxy.kernel.errors import ERROR_CODE, JSON, TEXT, Flavor, NoModel, NotRouted, ProxyError, UpstreamAnswer

SHOULD_RETRY: Final = b"x-should-retry"
"""The response header by which OpenAI's and Anthropic's SDKs, and Claude Code, are told whether to send it again."""
LONGEST_WAIT: Final = 60
"""Seconds of a Retry-After up to which a client may wait by itself. Some clients would wait silently for hours, and
others come back at once."""

_BARE_JSON: Final = b"application/json"
_BARE_TEXT: Final = b"text/plain"
_REFUSED_FOR_GOOD: Final = frozenset({401, 403})
_OPENAI_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_OPENAI_PARAMS: Final = {PREVIOUS_RESPONSE_NOT_FOUND: "previous_response_id"}
"""The member of the request that an error is about, where OpenAI's own error names it; its type is OpenAI's too."""
_SPLIT_AT: Final = str.maketrans(dict.fromkeys("\x85\u2028\u2029", " "))


def render(flavor: Flavor, error: ProxyError, request_id: str | None = None) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of `error` in the flavor of the API that was called.

    A backend's own error answer is returned unchanged. Any other error has its code in ``x-error-code``, and one that
    is final says so in ``x-should-retry``.

    Args:
        flavor: the API that was called.
        error: what to answer.
        request_id: the id of the request; Anthropic's form has it in the body.
    """
    if isinstance(error, UpstreamAnswer):
        return error.status, error.response_headers, error.body
    if isinstance(error, NotRouted):
        kind, body = _BARE_TEXT, _sentence(error).encode()
    elif flavor == "text":
        kind, body = TEXT, _sentence(error).encode()
    else:
        kind, body = JSON, _document(flavor, error, request_id)
        if flavor != "ollama" and isinstance(error, NoModel) and not error.early:
            kind, body = _BARE_JSON, body + b"\n"
    headers: list[Header] = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (ERROR_CODE, _name(error).encode()),
    ]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    if _is_final(error, headers):
        headers.append((SHOULD_RETRY, b"false"))
    return error.status, headers, body


def render_record(flavor: Flavor, error: ProxyError) -> bytes:
    """Return `error` as one record of a running stream: an NDJSON line, or one SSE event."""
    document = _document(flavor, error, None)
    if flavor == "openai":
        return b"data: " + document + b"\n\n"
    if flavor == "anthropic":
        return b"event: error\ndata: " + document + b"\n\n"
    return document + b"\n"


def _document(flavor: Flavor, error: ProxyError, request_id: str | None) -> bytes:
    message = _sentence(error)
    code = None if error.code in OLLAMAS_OWN else _name(error)
    document: dict[str, Any]
    if flavor == "openai":
        param = _OPENAI_PARAMS.get(error.code)
        kind = _kind(_OPENAI_TYPES, error.status) if param is None else "invalid_request_error"
        return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})
    if flavor == "anthropic":  # Anthropic's SDKs read type and message, and keep the rest
        document = {"type": "error", "error": {"type": _kind(_ANTHROPIC_TYPES, error.status), "message": message}}
        if code is not None:
            document["error"]["code"] = code
        if request_id is not None:
            document["request_id"] = request_id
        return orjson.dumps(document)
    document = {"error": message}
    if error.status == 401:
        document["status"] = message  # of a 401, Ollama's client in Go reads nothing else
    if code is not None:
        document["code"] = code
    return orjson.dumps(document)


def _is_final(error: ProxyError, headers: list[Header]) -> bool:
    """Return whether a client should not send the request again by itself, or not for a long time."""
    if error.status in _REFUSED_FOR_GOOD or error.code in FINAL:
        return all(name != SHOULD_RETRY for name, _ in headers)
    wait = next((value for name, value in headers if name == b"retry-after"), b"")
    return wait.isdigit() and int(wait) > LONGEST_WAIT


def _kind(types: Mapping[int, str], status: int) -> str:
    return types.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def _sentence(error: ProxyError) -> str:
    """Return the message without characters that UTF-8 cannot encode, or at which some clients split records."""
    message = error.message
    return message if message.isascii() else message.encode(errors="backslashreplace").decode().translate(_SPLIT_AT)


def _name(error: ProxyError) -> str:
    """Return the code in ASCII without control characters; that of a plugin of another package may be any text.

    No codec is used that would first have to be imported: there may be no file left to open.
    """
    return error.code if error.code.isascii() and error.code.isprintable() else ascii(error.code)[1:-1]
