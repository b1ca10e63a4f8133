"""The program's own events: structlog's and the standard library's loggers, through one pipeline into one sink."""

import logging
import time
from typing import Final

import structlog
from structlog.processors import format_exc_info
from structlog.typing import EventDict, WrappedLogger

from proxy.kernel.log_lines import FormatName, Level, SinkLogger, pipeline
from proxy.kernel.log_sink import LogSink

MAX_TRACEBACK: Final = 8 * 1024
"""Characters of a traceback; a longer one keeps its end, where the cause stands."""
_STDLIB_LEVELS: Final = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"), (0, "debug"))


def configure(sink: LogSink, *, format: FormatName, level: Level) -> None:
    """Send every event of the program to `sink`: structlog's, the standard library's, warnings.

    May be called again to change any of the three; loggers that were made before follow. An event has ``time``,
    ``level``, ``event`` (a stable snake_case name), ``logger``, and what is known about it; one that came through the
    standard library is named ``message`` and carries its text there. uvicorn must be told ``log_config=None``.
    """
    structlog.configure(
        processors=[_name, format_exc_info, _bound, *pipeline(format, now=time.time)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        logger_factory=lambda *names: SinkLogger(sink, *names),
        # Events are rare: making the bound logger each time costs little and lets a later `configure` reach all.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore", "uvicorn.error"):  # at INFO: whole URLs, and what `serve` says itself
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


class _Bridge(logging.Handler):
    """Turns records of the standard library into events."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit the format must not lose the record
            message = str(record.msg)
        level = next(name for number, name in _STDLIB_LEVELS if record.levelno >= number)
        log = structlog.get_logger(record.name)
        getattr(log, level)("message", message=message, exc_info=record.exc_info)


def _name(logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
    name = getattr(logger, "name", None)
    return {"logger": name, **event} if name else event


def _bound(logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
    exception = event.get("exception")
    if isinstance(exception, str) and len(exception) > MAX_TRACEBACK:
        event["exception"] = "…" + exception[-MAX_TRACEBACK:]
    return event
