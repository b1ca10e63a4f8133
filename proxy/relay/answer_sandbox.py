"""Headers that make a browser take a backend's answer for data, never for a page or a script of the proxy's origin.

The ops page keeps its key in that origin. HTML that a backend sent, opened there, could read it. So every answer says
that its type is not to be guessed (``nosniff``), and one of a type that is not known to be mere data goes out as plain
text, byte for byte, in a sandbox of its own.
"""

import re
from functools import lru_cache
from typing import Final

from proxy.kernel.asgi import Header, header_values
from proxy.kernel.errors import TEXT

_TYPE: Final = re.compile(r"[ \t]*([a-z0-9!#$&^_.+-]+)/([a-z0-9!#$&^_.+-]+)[ \t]*(?:;[^,]*)?", re.IGNORECASE)
_LONGEST: Final = 512
"""Bytes of a type with its parameters; none that means anything is longer."""
_DATA_TEXTS: Final = frozenset({"plain", "event-stream", "csv", "markdown"})
_SHOWN_OR_RUN: Final = re.compile(
    "xml|html|svg|script|pdf|flash|xaml|hta|mht|wasm|java|manifest|webbundle|signed-exchange|proxy|xul|xsl|silverlight|css"
)
"""Parts of the names of types that a browser renders, runs or takes orders from."""

_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_AS_TEXT: Final[tuple[Header, ...]] = (
    (b"content-type", TEXT),
    (b"content-security-policy", b"sandbox"),
)


def as_data(headers: list[Header]) -> list[Header]:
    """Return the headers of a backend's answer, names in lower case, for a browser that is to take it for data."""
    types = header_values(headers, b"content-type")
    if len(types) > 1 or (types and not is_data(types[0])):
        headers = [pair for pair in headers if pair[0] != b"content-type"]
        headers += _AS_TEXT
    headers.append(_NOSNIFF)
    return headers


def is_data(content_type: bytes) -> bool:
    """Return whether no browser shows or runs a document of that type: JSON, a stream of it, text, sound, an image."""
    return len(content_type) <= _LONGEST and _is_data(content_type)  # before the cache: it keeps what it is asked about


@lru_cache(maxsize=256)
def _is_data(content_type: bytes) -> bool:
    found = _TYPE.fullmatch(content_type.decode("latin-1"))
    if found is None:
        return False
    kind, subtype = found[1].lower(), found[2].lower()
    if kind == "text":
        return subtype in _DATA_TEXTS
    return kind in ("application", "audio", "video", "image", "font") and _SHOWN_OR_RUN.search(subtype) is None
