"""Members of a JSON text as they are written, so that they can be passed on byte for byte."""

from typing import Final

import orjson

from proxy.kernel.json_edit import Text

_SPACE: Final = b" \t\r\n"


def members_of(text: bytes) -> dict[str, bytes]:
    """Return the members of the JSON object in `text`, each with its value as it is written; of equal keys the last.

    `text` must be valid JSON, and an object.
    """
    found = Text(text)
    return {orjson.loads(key): text[span.start : span.end] for key, span in found.members(text.index(b"{"))}


def elements_of(text: bytes) -> list[bytes]:
    """Return the elements of the JSON list in `text` as they are written; `text` must be valid JSON, and a list."""
    return [text[start:end] for start, end in Text(text).elements(text.index(b"["))]


def on_one_line(text: bytes) -> bytes:
    """Return a JSON text without its line breaks, which only stand between its parts."""
    text = text.strip(_SPACE)
    return text.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in text or b"\r" in text else text
