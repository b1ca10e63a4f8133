"""Hints for a duration, size or rate that is written in another way: ``64mb``, ``1h30m``, ``60/min``.

Each function returns what to write instead, as the policy file takes it, or None where there is no telling. Whoever
asks makes sure that it is taken: a hint that is refused next is worse than none.
"""

import re
from decimal import Decimal
from typing import Final

NEVER: Final = "there is no word for never: write a long time, like 7d"
AT_LEAST_ONE: Final = "a rate is at least 1; access says who may not call at all"

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_TIMES: Final = {
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), _MINUTE),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), _HOUR),
    **dict.fromkeys(("d", "day", "days"), _DAY),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 7 * _DAY),
    **dict.fromkeys(("y", "yr", "year", "years"), 365 * _DAY),
}
"""Spelling → milliseconds."""
_SHOWN: Final = (("d", _DAY), ("h", _HOUR), ("m", _MINUTE), ("s", 1000), ("ms", 1))
_PERIODS: Final = {1000: "second", _MINUTE: "minute", _HOUR: "hour", _DAY: "day"}
_ENDLESS: Final = frozenset({"off", "no", "never", "none", "forever", "infinite", "infinity", "inf", "unlimited"})
_TERM: Final = re.compile(r"([0-9]{0,9}\.?[0-9]{1,9}) ?([a-z]{1,12})(?: and |, | )?")
_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([kmgt]?)(i?)(b|byte|bytes)?")
_RATE: Final = re.compile(r"(-?[0-9]{1,12})(k?) ?(?:per |an? |/ ?)(?:([0-9]{1,9}) ?)?([a-z]{1,12})")
_PER_MINUTE: Final = re.compile(r"(-?[0-9]{1,12})(k?) ?([rt]p[smhd])")


def duration(value: object, *, zero: bool = True) -> str | None:
    """Return what to write for a duration; `zero` tells whether ``0s`` would do."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return f"write {value}s for seconds" if value > 0 or (zero and value == 0) else NEVER
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if text in _ENDLESS or text.startswith("-"):
        return NEVER
    if re.fullmatch(r"[0-9]{1,15}", text):
        return f"write {text}s for seconds"
    milliseconds = _milliseconds(text if text[:1].isdigit() or text[:1] == "." else f"1{text}")
    return f"write {_shown(milliseconds)}" if milliseconds or (zero and milliseconds == 0) else None


def _milliseconds(text: str) -> int | None:
    """Return ``1h30m``, ``10 sec`` or ``1 hour and 5 minutes`` in milliseconds; None for anything else."""
    at, total = 0, Decimal(0)
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or match[2] not in _TIMES:
            return None
        total += Decimal(match[1]) * _TIMES[match[2]]
        at = match.end()
    return int(total) if at and total == int(total) else None


def _shown(milliseconds: int) -> str:
    if not milliseconds:
        return "0s"
    return next(f"{milliseconds // unit}{name}" for name, unit in _SHOWN if milliseconds % unit == 0)


def size(value: object) -> str | None:
    """Return what to write for a size."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return f"write {value}B for bytes" if value > 0 else "a size is at least 1B"
    if not isinstance(value, str) or not (match := _SIZE.fullmatch(value.strip().lower())):
        return None
    number, prefix, binary, _ = match.groups()
    prefix = prefix.upper()
    if not prefix:
        return f"write {number}B" if not binary else None
    if binary:
        return f"write {number}{prefix}iB"
    both = value.strip()[-1] not in "bBeEsS"
    return f"write {number}{prefix}B, or {number}{prefix}iB" if both else f"write {number}{prefix}B"


def rate(value: object) -> str | None:
    """Return what to write for a rate."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return f"write {value}/minute, or another period" if value > 0 else AT_LEAST_ONE
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if short := _PER_MINUTE.fullmatch(text):  # rpm, tpm
        amount, thousands, count, period = short[1], short[2], None, short[3][-1]
    elif match := _RATE.fullmatch(text):
        amount, thousands, count, period = match.groups()
    else:
        return None
    total = int(amount) * (1000 if thousands else 1)
    if total <= 0:
        return AT_LEAST_ONE
    if period in ("mo", "month", "months") and count is None:
        return f"write {total}/month"
    if period not in _TIMES or count == "0":
        return None
    milliseconds = int(count or 1) * _TIMES[period]
    if count is None and milliseconds in _PERIODS:
        return f"write {total}/{_PERIODS[milliseconds]}"
    return f"write {total}/{_shown(milliseconds)}" if milliseconds else None
