"""What Go itself said of the kept inputs, and the models of Go's readers in the same words."""

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

from tests.fuzz.oracles import gomultipart

FOLDER: Final = Path(__file__).parents[1] / "go"
_LONG: Final = 1000
_BEGINNING: Final = 64
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def recorded(name: str) -> dict[str, Any]:
    """Return Go's answers for a target, by the input's SHA-256."""
    answers: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return answers


def form(data: bytes) -> dict[str, Any]:
    """Return what the model finds in a form, as ``readers.go`` puts it."""
    content_type, _, body = data.partition(b"\n")
    try:
        found = gomultipart.read_form(content_type, body)
    except gomultipart.BadForm:
        return {"error": "form"}
    values: dict[str, list[str]] = {}
    for field, value in found:
        values.setdefault(b64encode(field).decode(), []).append(b64encode(value).decode())
    return {"values": values}


def shortened(value: Any) -> Any:
    """Put a text's beginning and its length in place of one that is long, and doubles in place of integers."""
    if isinstance(value, str):
        raw = value.encode()
        if len(raw) <= _LONG:
            return value
        beginning = raw[:_BEGINNING].decode("utf-8", "surrogateescape")
        return f"{_SURROGATE.sub(chr(0xFFFD), beginning)} and {len(raw)}"
    if isinstance(value, list | tuple):
        return [shortened(item) for item in value]
    if isinstance(value, dict):
        return {shortened(key): shortened(item) for key, item in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
