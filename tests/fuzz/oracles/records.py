"""Records of a stream, read whole: lines of JSON, and events as the HTML standard has them (section 9.2.6)."""

import json
import re
from typing import Any, NoReturn


def objects(text: bytes) -> list[tuple[bytes, dict[str, Any] | None]]:
    """Return the lines of NDJSON that are not blank, each with the object it is, None where it is none."""
    return [(line, json_object(line)) for line in text.split(b"\n") if line.strip(b" \t\r")]


def events(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return name and data of each event; one that the end cut off before its blank line counts as well.

    White space around a line of data is left out, which the standard does with one space in front.
    """
    found: list[tuple[bytes, bytes]] = []
    name, data = b"", list[bytes]()
    for line in [*re.split(rb"\r\n|\n|\r", text), b""]:
        if not line:
            if data:
                found.append((name, b"\n".join(data)))
            name, data = b"", []
        elif line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return found


def json_object(text: bytes) -> dict[str, Any] | None:
    """Return the object that `text` is; None where it is not strictly one."""
    try:
        value = json.loads(text.decode(), parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # refuses half a surrogate pair
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value
