"""`logging`: one line per request, written at the end of the request.

The plugin does nothing while a request runs, and nothing per chunk: the exchange holds all values at the end. The table
in ``fields.py`` defines the line.
"""

import random
from collections.abc import Awaitable, Mapping
from typing import Annotated, Final

from pydantic import Field
from structlog.typing import EventDict, WrappedLogger

from middleware.logging.fields import FIELDS
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Outcome
from proxy.kernel.exchange import Exchange
from proxy.kernel.log_lines import FormatName, Level, make_logger
from proxy.kernel.log_sink import LogSink

LEVELS: Final[Mapping[Outcome, Level]] = {
    "completed": "info",
    "refused": "warning",
    "cancelled": "warning",
    "client_gone": "info",
    "upstream_failed": "error",
    "upstream_truncated": "error",
    "timed_out": "error",
    "shutdown": "warning",
}
_READERS: Final = tuple((field.name, field.read) for field in FIELDS if field.read is not None)


class Logging:
    """Writes one line per request, at its end.

    Args:
        format: `json` for machines, `console` for people, `ecs` and `otel` for machines that expect the names of
            Elastic's Common Schema or of OpenTelemetry.
        levels: the level of a line by the request's outcome, where it differs from the default. The default for
            `upstream_failed` is `error`, but `warning` where the backend's error came in a 200 that was passed on.
        sample: route → the share of its completed requests that is logged, for health checks: `{"/": 0.01}`; `0`
            for none.
            Requests that did not complete are always logged.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        sink: LogSink,
        clock: Clock,
        format: FormatName = "json",
        levels: Mapping[Outcome, Level] | None = None,
        sample: Mapping[str, Annotated[float, Field(ge=0, le=1)]] | None = None,
    ) -> None:
        self.app = app
        self._levels = {**LEVELS, **(levels or {})}
        self._passed_on = (levels or {}).get("upstream_failed", "warning")
        self._sample = dict(sample or {})
        self._log = make_logger(sink, format, _fields, now=clock.time)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Register the line to be written at the end. No coroutine: one more would slow down every chunk."""
        if scope["type"] == "http":
            Exchange.of(scope).on_finish(self._finish)
        return self.app(scope, receive, send)

    def _finish(self, exchange: Exchange) -> None:
        outcome = exchange.outcome or "shutdown"
        if outcome == "completed" and self._sample:
            share = self._sample.get(route.path) if (route := exchange.route) else None
            if share is not None and random.random() >= share:
                return
        passed_on = outcome == "upstream_failed" and exchange.failure is not None
        write = getattr(self._log, self._passed_on if passed_on else self._levels[outcome])
        write("request", exchange=exchange)


def _fields(logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """Replace the exchange by the fields, in a processor: structlog copies arguments that are passed repeatedly."""
    exchange: Exchange = event["exchange"]
    fields: EventDict = {name: read(exchange) for name, read in _READERS}
    fields["event"] = event["event"]
    return fields
