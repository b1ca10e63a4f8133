"""Read the time that a model stays in memory, ``keep_alive``, as Ollama, a Go program, reads it."""

import math
import re
from typing import Any, Final

FOREVER: Final = math.inf
"""An endless lifetime, or a reply without a bound."""

_LARGEST: Final = 2**63 - 1
"""The largest time.Duration, in nanoseconds."""
_SECOND: Final = 10**9
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_NAMES: Final = "|".join(_UNITS)
_DURATION: Final = re.compile(rf"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:{_NAMES}))+")
_TERM: Final = re.compile(rf"([0-9]*)\.?([0-9]*)({_NAMES})")
_LONGEST: Final = 64
"""Maximum length of a duration, in characters; durations written by Go have at most 25."""


def read_lifetime(value: Any) -> float:
    """Return ``keep_alive`` in seconds, FOREVER for a negative value; raises ValueError for what Ollama cannot read.

    The value is a number of seconds, whose fraction is cut off, or the text of a duration in whole nanoseconds,
    https://pkg.go.dev/time#ParseDuration. So ``0.9``, ``"0.9ns"`` and ``"-0.9ns"`` are 0, which unloads the model.
    """
    if isinstance(value, str):
        nanoseconds = read_nanoseconds(value)
        return FOREVER if nanoseconds < 0 else nanoseconds / _SECOND
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a duration like 10m, or seconds")
    if value < 0:
        return FOREVER
    if value >= _LARGEST // _SECOND:
        raise ValueError("must be at most 292 years")  # a longer duration overflows Go's nanoseconds
    return float(int(value))


def read_nanoseconds(text: str) -> int:
    """Return a duration as time.ParseDuration does; raises ValueError."""
    if text in ("0", "+0", "-0"):
        return 0
    if len(text) > _LONGEST or not _DURATION.fullmatch(text):
        raise ValueError("must be a duration like 10m, or seconds")
    total = 0
    for whole, fraction, name in _TERM.findall(text):
        unit = _UNITS[name]
        total += int(whole or "0") * unit
        if fraction:
            digits = fraction[:18]  # 18 digits fit into 64 bits; Go drops the rest
            total += int(int(digits) * (unit / 10.0 ** len(digits)))
    if total > _LARGEST:
        raise ValueError("must be at most 292 years")
    return -total if text[0] == "-" else total
