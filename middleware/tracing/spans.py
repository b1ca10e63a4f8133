"""The spans of one request, made at its end from the exchange, by OpenTelemetry's conventions.

::

    POST /api/chat                      server   the request
    ├── queue                           internal the time it waited for a slot
    ├── chat llama3.2:latest            client   an attempt at a backend that failed
    └── chat llama3.2:latest            client   the attempt that was answered; its event `first_token`

Only the first span begins while the request runs, since the backend receives its id. Needs the extra `otel`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from proxy.kernel.asgi import Header, Scope, header
from proxy.kernel.attempts import Attempt
from proxy.kernel.caller_text import masked_error, masked_path, masked_text, model_of
from proxy.kernel.errors import Outcome, Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.genai import PROVIDER, operation_of

_W3C: Final = TraceContextTextMapPropagator()
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FAILED: Final[frozenset[Outcome]] = frozenset({"upstream_failed", "upstream_truncated", "timed_out", "shutdown"})

Attributes = dict[str, AttributeValue | None]


def begin(tracer: Tracer, exchange: Exchange, *, inherit: bool) -> Span:
    """Begin the span of a request; continue the caller's trace if `inherit` is set and the caller named one."""
    scope = exchange.scope
    parent = _W3C.extract(_carrier(scope), Context()) if inherit else Context()
    method = scope["method"] if scope["method"] in _METHODS else "HTTP"
    name = f"{method} {exchange.route.path}" if exchange.route is not None else method
    return tracer.start_span(name, parent, SpanKind.SERVER, start_time=_moments()(exchange.started_at))


def _carrier(scope: Scope) -> dict[str, str]:
    found = ((name, header(scope["headers"], name)) for name in (b"traceparent", b"tracestate"))
    return {name.decode(): value.decode("latin-1") for name, value in found if value is not None}


def context_headers(span: Span) -> list[Header]:
    """Return the headers that name `span` as the parent of the backend's spans."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    return [(name.encode(), value.encode("latin-1")) for name, value in carrier.items()]


def finish(tracer: Tracer, span: Span, exchange: Exchange) -> None:
    """End the span of a finished request, and make the spans within it."""
    moment = _moments()
    ended_at = exchange.ended_at or time.monotonic()
    if span.is_recording():
        span.set_attributes(_present(_of_request(exchange)))
        if exchange.outcome in _FAILED:
            span.set_status(
                StatusCode.ERROR, masked_error(exchange.error.detail) if exchange.error is not None else None
            )
        within = set_span_in_context(span, Context())
        if exchange.queued:
            left = min((attempt.began for attempt in exchange.history), default=ended_at)
            waited: Attributes = {
                "ollama_proxy.queue.position": exchange.queue_position,
                "ollama_proxy.queue.reason": exchange.queue_reason,
            }
            queue = tracer.start_span(
                "queue", within, attributes=_present(waited), start_time=moment(left - exchange.queued)
            )
            queue.end(moment(left))
        answered = _answered(exchange)
        for attempt in exchange.history:
            _attempt(tracer, within, exchange, attempt, moment, answered=attempt is answered)
    span.end(moment(ended_at))


def _answered(exchange: Exchange) -> Attempt | None:
    """Return the attempt whose answer the client got; if no answer was complete, the last attempt."""
    whole = (attempt for attempt in reversed(exchange.history) if attempt.error is None)
    return next(whole, exchange.history[-1] if exchange.history else None)


def _attempt(
    tracer: Tracer,
    within: Context,
    exchange: Exchange,
    attempt: Attempt,
    moment: Callable[[float], int],
    *,
    answered: bool,
) -> None:
    operation, model = operation_of(exchange.route), model_of(exchange)
    name = f"{operation} {model}" if operation and model else masked_text(exchange.scope["method"])
    attributes: Attributes = {"ollama_proxy.backend": attempt.backend, "ollama_proxy.cold": attempt.cold}
    if operation is not None:
        attributes |= {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": exchange.stream,
        }
        if answered:
            attributes |= _of_answer(exchange, attempt)
    attributes["error.type"] = attempt.error
    span = tracer.start_span(
        name, within, SpanKind.CLIENT, attributes=_present(attributes), start_time=moment(attempt.began)
    )
    if attempt.error is not None and attempt.error != "cancelled":
        span.set_status(StatusCode.ERROR)
    if answered and exchange.first_byte_at is not None:
        span.add_event("first_token", timestamp=moment(exchange.first_byte_at))
    span.end(moment(attempt.ended))


def _of_request(exchange: Exchange) -> Attributes:
    scope, route, error = exchange.scope, exchange.route, exchange.error
    agent = header(scope["headers"], b"user-agent")
    return {
        "http.request.method": scope["method"] if scope["method"] in _METHODS else "_OTHER",
        "http.route": route.path if route is not None else None,
        "url.path": masked_path(scope["path"]),
        "url.scheme": scope.get("scheme"),
        "http.response.status_code": exchange.status,
        "http.request.body.size": exchange.bytes_in,
        "http.response.body.size": exchange.bytes_out,
        "client.address": exchange.client,
        "user_agent.original": masked_text(agent.decode("latin-1")) if agent else None,
        "error.type": error.code if error is not None else None,
        "user.name": exchange.identity,
        "ollama_proxy.tenant": exchange.tenant,
        "ollama_proxy.policy": exchange.policy,
        "ollama_proxy.request_id": exchange.id,
        "ollama_proxy.outcome": exchange.outcome,
        "ollama_proxy.error_plugin": error.by if isinstance(error, Refused) else None,
        "ollama_proxy.reason": exchange.reason,
        "ollama_proxy.chunks": exchange.chunks,
        "ollama_proxy.terminated": exchange.terminated,
        "ollama_proxy.config_generation": exchange.generation,
    }


def _of_answer(exchange: Exchange, attempt: Attempt) -> Attributes:
    usage, first = exchange.usage, exchange.first_byte_at
    return {
        "gen_ai.usage.input_tokens": usage.tokens_in if usage is not None else None,
        "gen_ai.usage.output_tokens": usage.tokens_out if usage is not None else None,
        "gen_ai.response.finish_reasons": [usage.done_reason] if usage is not None and usage.done_reason else None,
        "gen_ai.response.time_to_first_chunk": first - attempt.began if first is not None else None,
    }


def _present(attributes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}


def _moments() -> Callable[[float], int]:
    """Return a function from seconds of the monotonic clock to nanoseconds since 1970."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda seconds: offset + int(seconds * 1_000_000_000)
