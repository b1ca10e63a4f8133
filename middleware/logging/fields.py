"""The table of the fields in a request's log line.

`logging` writes the line by it; the reference page and the JSON Schema of the log are generated from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from proxy.kernel.asgi import header
from proxy.kernel.caller_text import masked_error, masked_path, masked_text, model_of
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.log_lines import clip


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the line. Every line has every field, in this order; a field without a value is null.

    Attributes:
        name: the key in the line.
        kind: the JSON type of a value that is not null.
        description: one sentence for the reference.
        read: returns the value from a finished exchange; None for the fields of every log line of the proxy.
    """

    name: str
    kind: Literal["string", "integer", "number", "boolean"]
    description: str
    read: Callable[[Exchange], object] | None = None


def _text(value: str | None) -> str | None:
    return clip(value, 256) if value else None


def _route(exchange: Exchange) -> str | None:
    route = exchange.route
    return route.path if route is not None else None


def _path(exchange: Exchange) -> str | None:
    return masked_path(exchange.scope["path"]) if exchange.route is None else None


def _user_agent(exchange: Exchange) -> str | None:
    value = header(exchange.scope["headers"], b"user-agent")
    return masked_text(value.decode("latin-1")) if value else None


def _plugin(exchange: Exchange) -> str | None:
    return exchange.error.by if isinstance(exchange.error, Refused) else None


def _milliseconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) * 1000, 3)


def _tokens_source(exchange: Exchange) -> str | None:
    usage = exchange.usage
    return usage.source if usage is not None and (usage.tokens_in, usage.tokens_out) != (None, None) else None


def _tokens_per_second(exchange: Exchange) -> float | None:
    """Return tokens per second since the first byte; for an unstreamed answer, since the request left the queue."""
    usage, ended_at = exchange.usage, exchange.ended_at
    if usage is None or not usage.tokens_out or ended_at is None:
        return None
    began = exchange.first_byte_at if exchange.chunks > 1 else None
    seconds = ended_at - (exchange.started_at + exchange.queued if began is None else began)
    return round(usage.tokens_out / seconds, 2) if seconds > 0 else None


FIELDS: Final = (
    Field("time", "string", "When the request ended, RFC 3339 in UTC with milliseconds."),
    Field("level", "string", "`debug`, `info`, `warning`, `error` or `critical`, by the outcome."),
    Field("event", "string", "`request`: this is the line of a request."),
    Field("schema", "integer", "The version of this schema."),
    Field("request_id", "string", "The request's id; the answer carries it as `X-Request-ID`.", lambda x: x.id),
    Field("identity", "string", "Who called, as `auth` found out.", lambda x: _text(x.identity)),
    Field("tenant", "string", "The tenant the caller belongs to.", lambda x: _text(x.tenant)),
    Field(
        "end_user",
        "string",
        "The person that a trusted caller called for, as `auth.end_users` says.",
        lambda x: x.end_user and masked_text(x.end_user),
    ),
    Field("policy", "string", "The policy that applied.", lambda x: _text(x.policy)),
    Field(
        "client_address",
        "string",
        "The caller's address; the forwarded one behind a trusted proxy.",
        lambda x: x.client,
    ),
    Field("user_agent", "string", "The User-Agent header, at most 256 characters, secrets as `***`.", _user_agent),
    Field("method", "string", "The request's method.", lambda x: masked_text(x.scope["method"])),
    Field("route", "string", "The route, by its pattern: `/api/chat`, `/v1/models/{model}`.", _route),
    Field("path", "string", "The path where no route has it: shortened, without query, secrets as `***`.", _path),
    Field("model", "string", "The model, by its short canonical name.", model_of),
    Field(
        "model_asked",
        "string",
        "The model that was asked for, where `retry` put another in its place.",
        lambda x: x.asked and masked_text(x.asked.short),
    ),
    Field(
        "dropped",
        "string",
        "What `access` left out of the request: fields of its body, types of tools.",
        lambda x: ", ".join(x.dropped) or None,
    ),
    Field("backend", "string", "The backend that was tried last.", lambda x: x.backend),
    Field("attempts", "integer", "How many times the request was sent to a backend.", lambda x: x.attempts),
    Field("reason", "string", "Why that backend.", lambda x: _text(x.reason)),
    Field("gave_up", "string", "Why a failed request was not tried again.", lambda x: x.gave_up),
    Field(
        "status",
        "integer",
        "The status of the answer; null where the client left before it. See `heartbeats`.",
        lambda x: x.status,
    ),
    Field("outcome", "string", "How the request ended.", lambda x: x.outcome),
    Field("error_code", "string", "The error's code.", lambda x: _text(x.error_code)),
    Field("error", "string", "The error in a sentence.", lambda x: x.error and masked_error(x.error.detail)),
    Field("error_plugin", "string", "The plugin that refused the request, by its name in the policy file.", _plugin),
    Field("queue_ms", "number", "Milliseconds in the queue.", lambda x: round(x.queued * 1000, 3)),
    Field(
        "queue_position",
        "integer",
        "The place in line that it had at first, itself counted; null where it did not wait.",
        lambda x: x.queue_position,
    ),
    Field(
        "queue_reason",
        "string",
        "What it waited for: `turn`: others went first; `slots`: all were taken; `warm`: a backend that has the model.",
        lambda x: x.queue_reason,
    ),
    Field(
        "ttft_ms",
        "number",
        "Milliseconds from the request to the first byte of the answer.",
        lambda x: _milliseconds(x.started_at, x.first_byte_at),
    ),
    Field(
        "total_ms",
        "number",
        "Milliseconds from the request to its end.",
        lambda x: _milliseconds(x.started_at, x.ended_at),
    ),
    Field("chunks", "integer", "Chunks sent to the client.", lambda x: x.chunks),
    Field(
        "heartbeats",
        "integer",
        "Heartbeats sent before the answer. Where there were any, the client got status 200, and an error as a record.",
        lambda x: x.heartbeats,
    ),
    Field("bytes_in", "integer", "Bytes of the request body.", lambda x: x.bytes_in),
    Field("bytes_out", "integer", "Bytes of the response body.", lambda x: x.bytes_out),
    Field(
        "tokens_in",
        "integer",
        "Tokens of the prompt, as `rate_limit` counted them.",
        lambda x: x.usage and x.usage.tokens_in,
    ),
    Field("tokens_out", "integer", "Tokens generated.", lambda x: x.usage and x.usage.tokens_out),
    Field(
        "tokens_source",
        "string",
        "`reported` by the backend, or `estimated` from the request and from what was delivered.",
        _tokens_source,
    ),
    Field("tokens_per_second", "number", "Tokens generated per second since the first byte.", _tokens_per_second),
    Field(
        "done_reason",
        "string",
        "Why generation ended, in the backend's word.",
        lambda x: x.usage and _text(x.usage.done_reason),
    ),
    Field(
        "terminated",
        "boolean",
        "Whether the answer's last record came (`done:true`, `[DONE]` and the like); null where it needs none.",
        lambda x: x.terminated,
    ),
    Field(
        "deferred",
        "string",
        "The id of the entry under which `defer` kept the request, or, where no client is connected, of the one that "
        "ran now.",
        lambda x: x.deferred,
    ),
    Field(
        "detached",
        "boolean",
        "Whether the client left, and the answer went on to be recorded, as `resumable` says. Where the outcome is "
        "then `completed`, the whole answer is in the record; `client_gone`: nobody came to read on.",
        lambda x: x.detached,
    ),
    Field("config_generation", "integer", "Which configuration the request ran under.", lambda x: x.generation),
    Field("trace_id", "string", "The trace that `tracing` recorded it in.", lambda x: x.trace_id),
)
