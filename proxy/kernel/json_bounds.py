"""Bounds on the contents of a JSON text, checked before anything is built of it.

Objects in memory take fifty times and more what their text does: 1.6 KB of zstd, unpacked to empty lists, once took
1.4 GB. So a text is bounded by what it holds, not only by its bytes: lists and objects, keys, values, and how deep they
are nested. Counting looks only for the signs ``[ { : ,``. Most texts hold fewer of them, strings included, than would
pass any bound, and one quick look is enough; only the others are counted again outside of their strings.

All of it is linear in the text and done in pieces, so that Python's lock is never kept for long.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import orjson

from proxy.kernel.errors import Refused

CONTAINERS: Final = 50_000
"""Lists and objects together. A conversation of ten thousand messages with tools stays below."""
KEYS: Final = 100_000
"""Members of all objects together."""
VALUES: Final = 300_000
"""Values of every kind together. Ollama's ``context`` of a model with 256k tokens fits."""
DEPTH: Final = 254
"""Levels of lists and objects within each other: as deep as orjson writes."""
TEXT: Final = 16 * 2**20
"""Bytes of a JSON body without its images: four million tokens of English, which no model reads."""

TOO_MUCH: Final = "body_holds_too_much"
"""The code of a refusal because of one of these bounds; no such body goes on to a backend."""

SPARE: Final = 10_000
"""Values of each kind that any body may hold, however few bytes were sent."""
PER_BYTE: Final = 10
"""Further values of each kind for each byte sent; this tells a bomb from text that compresses well."""

_PIECE: Final = 256 * 1024
_SIGNS: Final = b"[{:,"
_NO_SIGN: Final = bytes(set(range(256)) - set(_SIGNS))
_STRING: Final = re.compile(rb'"[^"]*+"?')


def check_counts(text: bytes, sent: int) -> None:
    """Refuse a JSON text that holds too much.

    Args:
        text: the text; it may be no JSON, which is for its reader to say.
        sent: the bytes that were sent for it, fewer than it has where it was compressed.

    Raises:
        Refused: 413 where it is longer than `TEXT`, 400 where it holds more than `CONTAINERS`, `KEYS` or `VALUES`, or
            more than can be in what was sent.
    """
    if len(text) > TEXT:
        message = f"the request body holds more than {TEXT >> 20} MiB of text beside its images; send less at once"
        raise Refused(413, message, code=TOO_MUCH)
    share = SPARE + PER_BYTE * sent
    bounds = _Counts(min(CONTAINERS, share), min(KEYS, share), min(VALUES, share))
    if len(text) <= bounds.containers or _passed(pieces(text), bounds) is None:
        return
    if (bound := _passed(outside_strings(text), bounds)) is not None:
        raise Refused(400, f"the request body holds more than {bound}; send less at once", code=TOO_MUCH)


def loads(text: bytes) -> Any:
    """Return what JSON text of a backend holds; raises ValueError where it is none, or holds too much."""
    try:
        check_counts(text, len(text))
    except Refused as refused:
        raise ValueError(refused.message) from None
    return orjson.loads(text)


def outside_strings(text: bytes) -> Iterator[bytes]:
    """Yield what of a JSON text stands outside of its strings, piece by piece."""
    inside = False
    for piece in pieces(text):
        bare = piece.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in piece else piece
        if inside:
            bare = b'"' + bare
        inside = bare.count(b'"') % 2 == 1
        yield _STRING.sub(b"", bare)


def without_escapes(text: bytes) -> bytes:
    """Return a JSON text with every escaped quote and backslash as ``__``: each quote left begins or ends a string.

    Positions stay what they are.
    """
    if b"\\" not in text:
        return text
    return b"".join([piece.replace(b"\\\\", b"__").replace(b'\\"', b"__") for piece in pieces(text)])


class Extent(NamedTuple):
    """The depth of a document, and the number of members of all its objects together."""

    depth: int
    keys: int


def extent(document: dict[str, Any]) -> Extent:
    """Return the extent of what orjson read."""
    depth = keys = 0
    level: list[Any] = [document]
    while level:
        depth += 1
        keys += sum([len(each) for each in level if each.__class__ is dict])
        level = [
            value
            for each in level
            for value in (each.values() if each.__class__ is dict else each)
            if value.__class__ is dict or value.__class__ is list
        ]
    return Extent(depth, keys)


class _Counts(NamedTuple):
    containers: int
    keys: int
    values: int


def _passed(pieces: Iterable[bytes], bounds: _Counts) -> str | None:
    """Return the bound that is passed, in words; None where none is."""
    containers = keys = commas = 0
    for piece in pieces:
        signs = piece.translate(None, _NO_SIGN)
        containers += signs.count(b"[") + signs.count(b"{")
        keys += signs.count(b":")
        commas += signs.count(b",")
        if containers > bounds.containers:
            return f"{bounds.containers} lists and objects"
        if keys > bounds.keys:
            return f"{bounds.keys} keys"
        # Each value but the first of a list or an object stands behind a comma.
        if commas + containers > bounds.values:
            return f"{bounds.values} values"
    return None


def pieces(text: bytes, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield `text`, or what stands between `start` and `end`, in pieces that end behind what a backslash escapes."""
    end = len(text) if end is None else end
    while start < end:
        piece = text[start : min(start + _PIECE, end)]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and len(piece) > 1:
            piece = piece[:-1]
        start += len(piece)
        yield piece
