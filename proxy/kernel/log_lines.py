"""Renders every event of the log as one line of bytes.

Log lines carry what strangers send: model names, paths, user agents, error texts of backends. So whatever is in an
event, what comes out is exactly one line, valid and bounded: line ends, terminal escapes, Unicode line separators and
direction overrides are escaped, and what JSON cannot hold (huge integers, lone surrogates, odd keys) is replaced
rather than raised, because a log call must never fail a request.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from proxy.kernel.log_field_names import ECS, OTEL, Dialect
from proxy.kernel.log_sink import LogSink

Level = Literal["debug", "info", "warning", "error", "critical"]
FormatName = Literal["json", "console", "ecs", "otel"]
Render = Callable[[Mapping[str, object]], bytes]

SCHEMA: Final = 1
"""The version of what lines hold. It grows when a field goes, or changes its name, its type or its meaning."""
MAX_LINE: Final = 32 * 1024
"""Bytes; a longer line is written again with its texts clipped."""
MAX_TEXT: Final = 512
"""Characters of one text in a line that had to be clipped or repaired."""
MAX_ITEMS: Final = 64
MAX_DEPTH: Final = 6
MAX_HEAD: Final = 5

# Dataclasses go through repr(), which leaves out what they hide.
_OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS

# In UTF-8: C1 controls (NEL and an 8-bit CSI are among them), U+2028 to U+202E, U+2066 to U+2069. JSON itself escapes
# everything below U+0020.
_UNSAFE: Final = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
_BARE: Final = re.compile(r"[\w./:@%+*,~()\[\]-]+")


_process: Final[dict[str, object]] = {}
"""The fields that every line of this process has."""


def name_worker(number: int) -> None:
    """Let every line of this process say which worker it comes from."""
    _process["worker"] = number


def process_fields() -> dict[str, object]:
    """Return the fields that every line of this process has, for who makes a line by himself."""
    return dict(_process)


def clip(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters; an ellipsis says that there was more."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def stamp(seconds: float) -> str:
    """Return a time (seconds since 1970) by RFC 3339 in UTC with milliseconds: ``2026-01-31T23:59:59.999Z``."""
    whole = int(seconds)
    return f"{_to_the_second(whole)}.{int((seconds - whole) * 1000):03}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def json_line(event: Mapping[str, object]) -> bytes:
    """Return `event` as one line of JSON without its newline, at most `MAX_LINE` bytes; never raises."""
    try:
        line = orjson.dumps(event, default=_spell, option=_OPTIONS)
    except Exception:  # orjson raises TypeError, and whatever a value's own __repr__ raises
        line = orjson.dumps(_repaired_fields(event))
    if len(line) > MAX_LINE:
        line = _shortened(event)
    return escape_json(line)


def escape_json(text: bytes) -> bytes:
    """Return JSON that says the same, without anything in its strings that a terminal or a reader of lines obeys."""
    # Nearly every line is ASCII, where this test is all it takes.
    return text if text.isascii() and b"\x7f" not in text else _UNSAFE.sub(_escape, text)


def console_line(event: Mapping[str, object]) -> bytes:
    """Return `event` for people: time of day, level, event, then the other fields as ``name=value``.

    A traceback follows on lines of its own, indented, each as safe as the first.
    """
    time, level, name = event.get("time"), event.get("level"), event.get("event")
    parts = [_safe_text(_text(time)[11:23]), _safe_text(_text(level)).ljust(8), _word(name)]
    parts += [
        f"{_safe_text(_text(key))}={_word(value)}"
        for key, value in event.items()
        if value is not None and key not in ("time", "level", "event", "schema", "exception")
    ]
    lines = [" ".join(parts)]
    exception = event.get("exception")
    if isinstance(exception, str):
        lines += ["    " + _safe_text(line) for line in exception.splitlines()]
    return clip("\n".join(lines), MAX_LINE).encode()


def _in(dialect: Dialect) -> Render:
    return lambda event: json_line(dialect.translate(event))


FORMATS: Final[Mapping[FormatName, Render]] = {
    "json": json_line,
    "console": console_line,
    "ecs": _in(ECS),
    "otel": _in(OTEL),
}


def make_logger(
    sink: LogSink, format: FormatName, *processors: Processor, now: Callable[[], float]
) -> FilteringBoundLogger:
    """Return a structlog logger of its own, apart from structlog's global configuration.

    Args:
        sink: takes the finished lines.
        format: how they look.
        processors: run on each event first.
        now: the time of an event, seconds since 1970.
    """
    lazy = structlog.wrap_logger(
        SinkLogger(sink),
        processors=[*processors, *pipeline(format, now=now)],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        context_class=dict,
    )
    return cast(FilteringBoundLogger, lazy.bind())


def pipeline(format: FormatName, *, now: Callable[[], float]) -> list[Processor]:
    """Return the structlog processors that turn an event into the one line that `SinkLogger` takes."""
    render = FORMATS[format]

    def head(logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        name = event.pop("event", None)
        return {"time": stamp(now()), "level": level, "event": name, "schema": SCHEMA, **_process, **event}

    def finish(logger: WrappedLogger, level: str, event: EventDict) -> bytes:
        return render(event)

    return [head, finish]


class SinkLogger:
    """The logger that structlog calls with the finished line, at any level.

    Args:
        sink: takes the lines.
        name: the logger's name, as given to ``structlog.get_logger``.
    """

    __slots__ = ("critical", "debug", "error", "info", "name", "warning")

    def __init__(self, sink: LogSink, name: str | None = None) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = sink.write


def _spell(value: object) -> str:
    """Spell what JSON has no word for. A repr hides what its type hides, secrets first of all."""
    return clip(repr(value), MAX_TEXT)


def _repaired(value: object, depth: int = 0) -> object:
    """Return `value` as plain JSON values that surely can be dumped, bounded in every direction."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return _repaired_text(value)
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            return _repaired_fields(value, depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            return [_repaired(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return _repaired_text(_text(value))


def _repaired_fields(fields: Mapping[Any, object], depth: int = 0) -> dict[str, object]:
    pairs = list(fields.items())[:MAX_ITEMS]
    return {_repaired_text(_text(name)): _repaired(value, depth) for name, value in pairs}


def _repaired_text(text: str) -> str:
    return clip(text, MAX_TEXT).encode("utf-8", "backslashreplace").decode()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _shortened(event: Mapping[str, object]) -> bytes:
    """Return a line within `MAX_LINE`: with its texts clipped or, if that is not enough, no more than its head."""
    line = orjson.dumps({**_repaired_fields(event), "clipped": True})
    if len(line) > MAX_LINE:
        head = {name: _text(value) for name, value in list(event.items())[:MAX_HEAD]}
        line = orjson.dumps({**_repaired_fields(head), "clipped": True})
    return line


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def _word(value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return json_line({"": value})[4:-1].decode()


def _safe_text(text: str) -> str:
    return text if text.isascii() and text.isprintable() else _word(text)
