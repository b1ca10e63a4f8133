"""Set headers by which a browser treats a backend's answer as data, never as a page or a script of the proxy's origin.

The ops page keeps its key in that origin; HTML from a backend, opened there, could read the key. So every answer tells
the browser not to guess its type (``nosniff``), and an answer of a type that is not known to be data goes out as plain
text, byte for byte, in a sandbox.
"""

import re
from functools import lru_cache
from typing import Final

from proxy.kernel.asgi import Header, header_values
from proxy.kernel.errors import TEXT

_TYPE: Final = re.compile(r"[ \t]*([a-z0-9!#$&^_.+-]+)/([a-z0-9!#$&^_.+-]+)[ \t]*(?:;[^,]*)?", re.IGNORECASE)
_LONGEST: Final = 512
"""Bytes of the longest Content-Type that is accepted; real ones are shorter."""
_DATA_TEXTS: Final = frozenset({"plain", "event-stream", "csv", "markdown"})
_SHOWN_OR_RUN: Final = re.compile(
    "xml|html|svg|script|pdf|flash|xaml|hta|mht|wasm|java|manifest|webbundle|signed-exchange|proxy|xul|xsl|silverlight|css"
)
"""Parts of the names of types that a browser renders, runs or obeys."""

_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_AS_TEXT: Final[tuple[Header, ...]] = (
    (b"content-type", TEXT),
    (b"content-security-policy", b"sandbox"),
)


def as_data(headers: list[Header]) -> list[Header]:
    """Return the headers of a backend's answer (names in lower case), so that a browser treats it as data."""
    types = header_values(headers, b"content-type")
    if len(types) > 1 or (types and not is_data(types[0])):
        headers = [pair for pair in headers if pair[0] != b"content-type"]
        headers += _AS_TEXT
    headers.append(_NOSNIFF)
    return headers


def is_data(content_type: bytes) -> bool:
    """Return whether no browser shows or runs a document of this type: JSON, a stream of it, text, sound, an image."""
    return len(content_type) <= _LONGEST and _is_data(content_type)  # before the cache, which keeps its arguments


@lru_cache(maxsize=256)
def _is_data(content_type: bytes) -> bool:
    found = _TYPE.fullmatch(content_type.decode("latin-1"))
    if found is None:
        return False
    kind, subtype = found[1].lower(), found[2].lower()
    if kind == "text":
        return subtype in _DATA_TEXTS
    return kind in ("application", "audio", "video", "image", "font") and _SHOWN_OR_RUN.search(subtype) is None
