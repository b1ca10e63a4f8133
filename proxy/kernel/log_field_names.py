"""The names that other systems give to the fields of a log line: Elastic's Common Schema, OpenTelemetry's conventions.

A dialect is a table from our names to theirs. A field that has none there keeps its own behind ``ollama_proxy.``; one
that says nothing (null) is left out, as neither of the two knows such a thing. Names are written with dots and not
nested: both take that, and ECS wants it so for ``log.level``.

- ECS: https://www.elastic.co/guide/en/ecs/current/ecs-field-reference.html
- OpenTelemetry: https://opentelemetry.io/docs/specs/semconv/registry/attributes/
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeGuard

OWN: Final = "ollama_proxy."
"""The prefix of names that a dialect does not know."""

_EVER: Final = 1e15
"""Milliseconds beyond which nothing takes."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form that another system gives to a line.

    Attributes:
        names: our name of a field → theirs.
        values: our name of a field → what makes their value of ours, where it is not the same.
        constants: fields that every line has besides.
    """

    names: Mapping[str, str]
    values: Mapping[str, Callable[[object], object]] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)

    def name(self, name: str) -> str:
        """Return what this dialect calls a field of ours."""
        return self.names.get(name) or OWN + name

    def translate(self, event: Mapping[str, object]) -> dict[str, object]:
        """Return `event` in this dialect."""
        names, values = self.names, self.values
        said: dict[str, object] = {}
        for name, value in event.items():
            if value is not None:
                said[names.get(name) or OWN + str(name)] = values[name](value) if name in values else value
        said.update(self.constants)
        return said


def _nanoseconds(milliseconds: object) -> object:
    return round(milliseconds * 1_000_000) if _is_time(milliseconds) else milliseconds


def _seconds(milliseconds: object) -> object:
    return milliseconds / 1000 if _is_time(milliseconds) else milliseconds


def _is_time(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number; a log call must not fail because of a value."""
    return isinstance(value, int | float) and abs(value) < _EVER


_GENAI: Final = {
    "model": "gen_ai.request.model",
    "tokens_in": "gen_ai.usage.input_tokens",
    "tokens_out": "gen_ai.usage.output_tokens",
    "done_reason": "gen_ai.response.finish_reasons",
}

ECS: Final = Dialect(
    {
        "time": "@timestamp",
        "level": "log.level",
        "event": "event.action",
        "logger": "log.logger",
        "message": "message",
        "request_id": "http.request.id",
        "trace_id": "trace.id",
        "identity": "user.name",
        "tenant": "organization.name",
        "client_address": "client.address",
        "user_agent": "user_agent.original",
        "method": "http.request.method",
        "path": "url.path",
        "status": "http.response.status_code",
        "error_code": "error.code",
        "error": "error.message",
        "exception": "error.stack_trace",
        "total_ms": "event.duration",
        "bytes_in": "http.request.body.bytes",
        "bytes_out": "http.response.body.bytes",
        **_GENAI,
    },
    {"total_ms": _nanoseconds, "done_reason": lambda reason: [reason]},
    {"ecs.version": "9.1.0", "service.name": "ollama-proxy"},
)

OTEL: Final = Dialect(
    {
        "time": "timestamp",
        "level": "severity_text",
        "event": "event_name",
        "logger": "otel.scope.name",
        "message": "body",
        "trace_id": "trace_id",
        "identity": "user.name",
        "client_address": "client.address",
        "user_agent": "user_agent.original",
        "method": "http.request.method",
        "route": "http.route",
        "path": "url.path",
        "status": "http.response.status_code",
        "error_code": "error.type",
        "error": "error.message",
        "exception": "exception.stacktrace",
        "ttft_ms": "gen_ai.response.time_to_first_chunk",
        "bytes_in": "http.request.body.size",
        "bytes_out": "http.response.body.size",
        **_GENAI,
    },
    {"ttft_ms": _seconds, "done_reason": lambda reason: [reason]},
    {"service.name": "ollama-proxy"},
)
