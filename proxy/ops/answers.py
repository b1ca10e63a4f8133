"""Responses of the ops routes, and the headers they all have."""

from pathlib import PurePath
from typing import Final

import orjson
from starlette.responses import Response

from proxy.kernel.asgi import Header
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import ERROR_CODE

_CONTENT: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", _CONTENT),
)
"""The headers of every response, errors too: no caching, embedding, type sniffing, or loading from other origins."""

KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def json(document: object, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(document), status, media_type="application/json")


def failed(document: object, status: int, code: Code) -> Response:
    """Return `document` as a JSON response with an error status, and the error's code in ``x-error-code``."""
    answer = json(document, status)
    answer.raw_headers.append((ERROR_CODE, code.encode()))
    return answer


def asset(name: str, body: bytes) -> Response:
    """Return a file of the ops page; its suffix decides the content type."""
    return Response(body, media_type=KINDS[PurePath(name).suffix])
