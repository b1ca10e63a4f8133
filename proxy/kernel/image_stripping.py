"""Images in a JSON text, left out before it is parsed: megabytes of base64 that no policy has any interest in.

What is left must read for a policy as the whole reads for Ollama, whatever a client made it of. So only the inside of a
string may go, and it must show that something is gone: the first part of a name may be another name.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

import orjson

from proxy.kernel.json_bounds import pieces

BLOB: Final = 8 * 1024
"""Length of a string, in bytes, from which on encoded data is left out of the document; few images are shorter."""
BLOB_HEAD: Final = 128
"""Bytes that stay of it: enough for ``data:image/png;base64,`` and a file's first bytes."""
CUT: Final = "\u2026"
"""The mark in place of the rest: no name, number or word of a policy ends so, so none is taken for the whole."""

_BACKSLASH: Final = b"\\"[0]
_CUT: Final = CUT.encode()
_BETWEEN_STRINGS: Final = b" \t\r\n,:]}"

Cut = tuple[int, int]
"""A position in the shortened text, and the bytes left out of the original up to there."""


def shorten(raw: bytes) -> tuple[bytes, list[Cut]]:
    """Cut most of each long word out of `raw`; return the shorter text, and the places of the cuts.

    What is valid stays so and keeps its structure.
    Between two neighbouring quotes stands either the inside of a string, or what separates two strings; the latter
    begins, in JSON, with white space or a sign of structure. So what begins otherwise is inside a string, or not even
    the body's first value is JSON for Ollama. (How it goes on proves nothing: Ollama reads no further than that value,
    and would find its end in there.) Where no backslash is left over before the second quote, it is a real one.
    """
    if len(raw) < BLOB:
        return raw, []
    pieces: list[bytes] = []
    cuts: list[Cut] = []
    at = kept = left_out = 0
    while at + BLOB <= len(raw):
        # Searched from the far end: text with quotes in it is passed in strides.
        quote = raw.rfind(b'"', at, at + BLOB)
        if quote < 0:
            quote = raw.find(b'"', at + BLOB)
            if quote < 0:
                break
            if raw[at] not in _BETWEEN_STRINGS and _is_data(raw, at, quote):
                start = at + BLOB_HEAD
                start += raw[start - 1] == _BACKSLASH  # what is escaped goes with its backslash
                pieces += (raw[kept:start], _CUT)
                cuts.append((start - left_out, left_out := left_out + quote - start - len(_CUT)))
                kept = quote
        at = quote + 1
    return (b"".join([*pieces, raw[kept:]]), cuts) if cuts else (raw, cuts)


def _is_data(raw: bytes, start: int, end: int) -> bool:
    r"""Return whether a string is valid and can only be data: ASCII without a space, escaped as base64 may be.

    That is ``\/``, as PHP writes it, and the line ends of MIME (RFC 2045, section 6.8).
    """
    for piece in pieces(raw, start, end):
        if b" " in piece or not piece.isascii():
            return False
        if b"\\" in piece:
            piece = piece.replace(b"\\/", b"__").replace(b"\\n", b"__").replace(b"\\r", b"__")
        if b"\\" in piece or not _is_printable(piece):
            return False
    return True


def _is_printable(piece: bytes) -> bool:
    """Return whether ASCII without quotes and backslashes holds no control characters; orjson checks it quickly."""
    try:
        orjson.loads(b'"%b"' % piece)
    except orjson.JSONDecodeError:
        return False
    return True


def origin(position: int, cuts: Sequence[Cut]) -> int:
    """Return where the shortened text's `position` is in the original."""
    behind = bisect_right(cuts, position, key=itemgetter(0))
    return position + cuts[behind - 1][1] if behind else position
