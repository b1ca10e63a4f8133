"""How the ops routes answer."""

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
"""On every answer, errors included: nothing is kept, embedded, sniffed, or loaded from elsewhere."""

KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def json(document: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(orjson.dumps(document), status, media_type="application/json")


def failed(document: object, status: int, code: Code) -> Response:
    """Return a JSON answer that says no by its status: a document of its own in place of an error's, with the code."""
    answer = json(document, status)
    answer.raw_headers.append((ERROR_CODE, code.encode()))
    return answer


def asset(name: str, body: bytes) -> Response:
    """Return a part of a page."""
    return Response(body, media_type=KINDS[PurePath(name).suffix])
