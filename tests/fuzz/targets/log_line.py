"""Log lines: whatever is in an event, one line of valid, bounded JSON comes of it, and it says what the event said.

An input is fields with a byte 0xFF between; of each the first byte says what kind of value the rest stands for.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from proxy.kernel.caller_text import masked_path
from proxy.kernel.log_lines import FORMATS, MAX_ITEMS, MAX_LINE, console_line, json_line
from tests.fuzz.cuts import dice

TOKENS = (
    b"\xff",
    b"t\x1b[31m",
    b"t\r\n",
    b"t\xe2\x80\xa8",
    b"t\xe2\x80\xae",
    b"t\xc2\x85",
    b"t\xed\xa0\x80",
    b"t\x00",
    b"t\x7f",
    b"ttime",
    b"tevent",
    b"i9",
    b"f",
    b"b\xfe",
    b"l",
    b"d",
    b"s",
    b"e",
    b"p/k/op_0123456789ab_0123456789abcdef0123456789abcdef",
    b"t\xf0\x9f\x98\x80",
    b"t" + b"x" * 600,
)
NAMES: Final = (
    "time",
    "level",
    "event",
    "error",
    "model",
    "total_ms",
    "ttft_ms",
    "done_reason",
    "x",
    "schema",
    "ä\u2028",
)
_STEERING: Final = frozenset(
    chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
)


class _Odd:
    """A value whose repr is what it was given."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        if not self.text:
            raise RuntimeError("no repr")
        return self.text


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _nested(raw: bytes) -> object:
    value: object = _text(raw)
    for _ in range(min(len(raw) * 3, 1000)):
        value = [value]
    return value


_KINDS: Final[dict[int, Callable[[bytes], object]]] = {
    ord("t"): _text,
    ord("i"): lambda raw: int.from_bytes(raw, "big", signed=True),
    ord("f"): lambda raw: (math.nan, math.inf, -math.inf, -0.0, 1e308, 0.1)[len(raw) % 6],
    ord("b"): bytes,
    ord("l"): _nested,
    ord("d"): lambda raw: {_text(raw): [raw, None], len(raw): True},
    ord("s"): lambda raw: {_text(raw), 1.5},
    ord("e"): lambda raw: _Odd(_text(raw)),
    ord("p"): lambda raw: masked_path(_text(raw)),
}


def event_of(data: bytes) -> dict[str, Any]:
    """Return the event that an input stands for."""
    numbers = dice(data)
    names = list(NAMES)
    numbers.shuffle(names)
    event: dict[str, Any] = {}
    for number, piece in enumerate(data.split(b"\xff")):
        make = _KINDS.get(piece[0] if piece else 0, bytes)
        event[names[number] if number < len(names) else f"field{number}"] = make(piece[1:])
    return event


def check(data: bytes) -> None:
    """Raise where an event breaks out of its line, is no valid JSON, or says something else than it should."""
    event = event_of(data)
    for name, render in FORMATS.items():
        line = render(event)
        assert len(line) <= (MAX_LINE if name != "console" else 4 * MAX_LINE), f"{name}: {len(line)} bytes"
        text = line.decode()
        allowed = {"\n"} if name == "console" and isinstance(event.get("exception"), str) else set()
        assert not (set(text) & _STEERING) - allowed, f"{name}: steers a terminal or ends the line: {text[:300]!r}"
        if name != "console":
            strict = partial(json.loads, parse_constant=_refuse)
            assert isinstance(strict(text), dict)
    said = json.loads(json_line(event))
    assert json_line(said) == json_line(json.loads(json_line(said))), "said again, it is another line"
    if not _repaired(event) and not said.get("clipped"):
        assert len(said) == len(event)
        for field, value in event.items():
            assert said[field] == value or isinstance(value, float), (
                f"{field} is {value!r}, and said was {said[field]!r}"
            )
    assert b"\n" not in console_line(said | {"exception": None})


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def _repaired(event: dict[str, Any]) -> bool:
    """Whether an event holds what JSON cannot, or spells in another way, so that its texts may be clipped as well."""
    for value in event.values():
        if not isinstance(value, str | float):
            return True
        try:
            str(value).encode()
        except UnicodeEncodeError:
            return True
    return len(event) > MAX_ITEMS
