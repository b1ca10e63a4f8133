"""The scalars of the policy file: durations, sizes, shares, rates, secrets, paths and policy names.

Each is an annotation for a setting or a plugin's option. What stands in the file is text with its unit (``30s``,
``64KiB``, ``20%``, ``60/minute``); what the code gets is a plain number in the base unit (seconds, bytes, 0 to 1), so
that nothing is converted while requests run. A number without its unit is refused: nobody remembers which one it was.

Nothing is not a duration: ``0s`` is refused, wherever it stands, for some would take it for *never* and others for *at
once*. Where it has a meaning that the option's documentation tells, the type is `DurationOrZero`. `Least` says what
else is too little. There is no word for never either; a long time does.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticSerializationUnexpectedValue, core_schema

from proxy.kernel import unit_hints

__all__ = [
    "ConfigFile",
    "ConfigPath",
    "Context",
    "Duration",
    "DurationOrZero",
    "Least",
    "Mistake",
    "Percent",
    "PolicyName",
    "Rate",
    "Secret",
    "Size",
    "SizeOrZero",
    "format_duration",
    "format_percent",
    "format_size",
    "parse_duration",
    "parse_percent",
    "parse_size",
    "scalar",
    "suggest",
]

Secret = SecretStr
"""Text that no print shows; `get_secret_value()` is the way to it."""


class Mistake(ValueError):
    """A value that is not what it should be.

    Args:
        message: what was expected. It never holds the value, which may come from the environment.
        hint: what to write instead; may repeat the value and is left out where the value is secret.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Return the hint "did you mean …?" where one of `known` is close to `name`."""
    spellings = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), spellings, n=1, cutoff=0.6)
    return f"did you mean {spellings[close[0]]!r}?" if close else None


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings that a value is checked against besides its type; pydantic's validation context.

    Attributes:
        folder: the folder of the policy file; relative paths start there.
        policies: the names under ``policies:``, None where they are not known (then every name is accepted).
        shown: values that came from the environment or a file → the text that stands for them in the policy file.
    """

    folder: Path = Path()
    policies: frozenset[str] | None = None
    shown: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, info: ValidationInfo) -> "Context":
        """Return the context of a running validation; an empty one where there is none."""
        return info.context if isinstance(info.context, cls) else cls()


_NUMBER: Final = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_PERIODS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "month": 2592000.0}

_DURATION: Final = re.compile(rf"{_NUMBER}(ms|s|m|h|d)")
_SIZE: Final = re.compile(rf"{_NUMBER}(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_PERCENT: Final = re.compile(r"(100(?:\.0{1,9})?|[0-9]{1,2}(?:\.[0-9]{1,9})?)%")
_RATE: Final = re.compile(rf"([1-9][0-9]{{0,14}})/(second|minute|hour|day|month|{_NUMBER}(?:ms|s|m|h|d))")


_SHORTEST: Final = 0.001
_LONGEST: Final = 36500 * 86400.0
"""Seconds; beyond it an event loop's timer overflows."""


def _misread(value: object, message: str, hint: str | None, read: Callable[[object], object]) -> Mistake:
    """Return the mistake of a `value` that is written otherwise; without a hint that `read` would refuse next."""
    for wanted in re.findall(r"(?:write|or) ([0-9][^ ,]*)", hint or ""):
        try:
            hint = None if wanted == value or read(wanted) is None else hint
        except Mistake:
            hint = None
    return Mistake(message, hint)


def parse_duration(value: object, read: Callable[[object], object] | None = None, *, zero: bool = True) -> float:
    """Read ``250ms`` ``30s`` ``10m`` ``1.5h`` ``7d`` → seconds.

    Raises Mistake, with a hint that `read` (or else this) takes; it may be ``0s`` only where `zero` is allowed.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(Decimal(match[1]) * _SECONDS[match[2]])
    hint = unit_hints.duration(value, zero=zero)
    raise _misread(value, "expected a duration like 250ms, 30s, 10m, 1h or 7d", hint, read or parse_duration)


def parse_time(value: object) -> float:
    """Read a duration from a millisecond to a hundred years → seconds; raises Mistake."""
    seconds = parse_duration(value, parse_time, zero=False)
    if not seconds:
        raise Mistake("expected more than 0s", unit_hints.NEVER)
    return _in_range(seconds)


def parse_time_or_zero(value: object) -> float:
    """Read a duration as `parse_time` does, or ``0s``; raises Mistake."""
    seconds = parse_duration(value, parse_time_or_zero)
    return _in_range(seconds) if seconds else seconds


def _in_range(seconds: float) -> float:
    if not _SHORTEST <= seconds <= _LONGEST:
        raise Mistake(f"expected from {format_duration(_SHORTEST)} to {format_duration(_LONGEST)}")
    return seconds


def format_duration(seconds: float) -> str:
    """Return `seconds` in the largest unit that keeps it a whole number; milliseconds are the finest."""
    exact = Decimal(repr(float(seconds))).normalize()
    for unit in ("d", "h", "m", "s"):
        if exact and exact % _SECONDS[unit] == 0:
            return f"{exact // _SECONDS[unit]:f}{unit}"
    return f"{exact / _SECONDS['ms']:f}ms" if exact else "0s"


def parse_size(value: object, read: Callable[[object], object] | None = None) -> int:
    """``512B`` ``64KiB`` ``10MB`` ``1.5GiB`` → bytes; raises Mistake, with a hint that `read` takes (or else this)."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        exact = Decimal(match[1]) * _BYTES[match[2]]
        if exact == int(exact):
            return int(exact)
    hint = unit_hints.size(value)
    raise _misread(value, "expected a size like 512B, 64KiB or 10MB", hint, read or parse_size)


def parse_amount(value: object) -> int:
    """Read a size of a byte or more; raises Mistake."""
    size = parse_size(value, parse_amount)
    if not size:
        raise Mistake("expected more than 0B")
    return size


def format_size(size: int) -> str:
    """Return `size` bytes in the unit that says it with the fewest digits."""
    spellings = [f"{size // factor}{unit}" for unit, factor in _BYTES.items() if size % factor == 0 and unit != "kB"]
    return min(spellings, key=len)


def parse_percent(value: object) -> float:
    """``20%`` ``12.5%`` → 0.2, 0.125; 0 to 100; raises Mistake."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        return float(Decimal(match[1]) / 100)
    hint = None
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value.strip().removesuffix("%").strip() or "x") / (100 if "%" in value else 1)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
        share = format_percent(value if value <= 1 else value / 100)
        hint = f"write {share}" if _PERCENT.fullmatch(share) else None
    raise Mistake("expected a share from 0% to 100%, like 20%", hint)


def format_percent(share: float) -> str:
    """Return 0.2 as ``20%``."""
    return f"{(Decimal(repr(float(share))) * 100).normalize():f}%"


@dataclass(frozen=True, slots=True)
class Rate:
    """An amount in a period: ``60/minute``, ``1000/day``, ``5/10s``.

    Attributes:
        amount: how many, at least 1.
        per: the length of the window, seconds, above 0; a month counts 30 days.
        text: as it was written; it counts in comparisons, for a day is not just any ``24h``.
    """

    amount: int
    per: float
    text: str

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a rate; raises Mistake."""
        if isinstance(value, str) and (match := _RATE.fullmatch(value)):
            per = _PERIODS.get(match[2]) or parse_duration(match[2])
            if per > 0:
                return cls(int(match[1]), per, value)
        hint = unit_hints.rate(value)
        raise _misread(value, "expected a rate like 60/minute", hint, cls.parse)

    @property
    def calendar(self) -> Literal["day", "month"] | None:
        """``day`` and ``month`` are the calendar's, in UTC; None: any `per` seconds in a row (``24h`` is no day)."""
        period = self.text.partition("/")[2]
        return "day" if period == "day" else "month" if period == "month" else None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return scalar(cls.parse, cls._shown)

    @staticmethod
    def _shown(value: object) -> str:
        """Serialize a rate; where it is one choice of several, pass other values on to the others."""
        if not isinstance(value, Rate):
            raise PydanticSerializationUnexpectedValue("not a rate")
        return value.text

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _described("a rate", _RATE, ["60/minute", "1000/day", "5/10s"])


def scalar(parse: Callable[[Any], Any], show: Callable[[Any], str]) -> CoreSchema:
    """Return how pydantic reads a value by `parse`, and `show` writes it for JSON."""
    return core_schema.no_info_plain_validator_function(
        parse, serialization=core_schema.plain_serializer_function_ser_schema(show, when_used="json")
    )


def _described(title: str, pattern: re.Pattern[str], examples: list[str]) -> JsonSchemaValue:
    return {"title": title, "type": "string", "pattern": f"^{pattern.pattern}$", "examples": examples}


@dataclass(frozen=True, slots=True)
class _Unit:
    """Tells pydantic how a number with its unit is read, shown and described."""

    title: str
    parse: Callable[[object], float]
    show: Callable[[Any], str]
    pattern: re.Pattern[str]
    examples: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return scalar(self.parse, self.show)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _described(self.title, self.pattern, list(self.examples))


@dataclass(frozen=True, slots=True)
class Least:
    """Annotation of a duration or size: a smaller one would hurt the proxy, a host or every caller.

    Attributes:
        text: the least that is taken, as it stands in the policy file.
    """

    text: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        least = parse_size(self.text) if _SIZE.fullmatch(self.text) else parse_duration(self.text)

        def check(value: float) -> float:
            if value < least:
                raise Mistake(f"expected at least {self.text}")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


_TIMES: Final = ("250ms", "30s", "10m", "1h", "7d")
_SIZES: Final = ("64KiB", "10MB")
Duration = Annotated[float, _Unit("a duration", parse_time, format_duration, _DURATION, _TIMES)]
"""Seconds, never 0."""
DurationOrZero = Annotated[float, _Unit("a duration", parse_time_or_zero, format_duration, _DURATION, ("0s", *_TIMES))]
"""Seconds; 0 has a meaning of its own, which the option's documentation tells with the word ``0s``."""
Size = Annotated[int, _Unit("a size", parse_amount, format_size, _SIZE, _SIZES)]
"""Bytes, never 0."""
SizeOrZero = Annotated[int, _Unit("a size", parse_size, format_size, _SIZE, ("0B", *_SIZES))]
"""Bytes; 0 has a meaning of its own, which the option's documentation tells with the word ``0B``."""
Percent = Annotated[float, _Unit("a share", parse_percent, format_percent, _PERCENT, ("20%",))]
"""A share from 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Text:
    """Tells pydantic that a value is text which `read` understands in its context."""

    title: str
    read: Callable[[str, ValidationInfo], object]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(
            self.read,
            core_schema.str_schema(strict=True, min_length=1),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"title": self.title, "type": "string", "minLength": 1}


def _path(text: str, info: ValidationInfo) -> Path:
    if "\0" in text:
        raise Mistake("expected a path")
    return Context.of(info).folder / Path(text).expanduser()


def _file(text: str, info: ValidationInfo) -> Path:
    path = _path(text, info)
    if not path.is_file():
        raise Mistake("there is no such file")
    return path


def _policy(text: str, info: ValidationInfo) -> str:
    known = Context.of(info).policies
    if known is not None and text not in known:
        raise Mistake("there is no such policy under policies", suggest(text, known))
    return text


ConfigPath = Annotated[Path, _Text("a path", _path)]
"""A path; relative ones start in the folder of the policy file. Nothing need be there."""
ConfigFile = Annotated[Path, _Text("a file", _file)]
"""A path of a file that is there."""
PolicyName = Annotated[str, _Text("a policy", _policy)]
"""A name that stands under ``policies:``."""
