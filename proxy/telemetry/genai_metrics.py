"""Metrics of requests to a model, by OpenTelemetry's conventions for generative AI."""

from proxy.kernel.exchange import Exchange
from proxy.kernel.genai import PROVIDER, operation_of
from proxy.telemetry import metric_table
from proxy.telemetry.series import histogram


class Generations:
    """The ``gen_ai_`` metrics."""

    def __init__(self) -> None:
        self._duration = histogram(metric_table.GENAI_DURATION)
        self._first_token = histogram(metric_table.GENAI_FIRST_TOKEN)
        self._per_token = histogram(metric_table.GENAI_PER_TOKEN)
        self._tokens = histogram(metric_table.GENAI_TOKENS)
        self.series = (self._duration, self._first_token, self._per_token, self._tokens)

    def count(self, exchange: Exchange, model: str, backend: str, seconds: float) -> None:
        """Count a request of inference that took `seconds`; `model` and `backend` are its labels."""
        operation = operation_of(exchange.route) or ""
        error = error_of(exchange)
        self._duration.of(operation, PROVIDER, model, backend, error).observe(seconds)
        if error:
            return
        usage, first = exchange.usage, exchange.first_byte_at
        tokens = usage.tokens_out if usage is not None and usage.source == "reported" else None
        if first is not None and exchange.chunks > 1 and exchange.stream:
            before = first - exchange.started_at
            self._first_token.of(operation, PROVIDER, model, backend).observe(before)
            if tokens is not None and tokens > 1:
                self._per_token.of(operation, PROVIDER, model, backend).observe((seconds - before) / (tokens - 1))
        if usage is not None and usage.tokens_in is not None:
            self._tokens.of(operation, PROVIDER, model, "input").observe(usage.tokens_in)
        if tokens is not None:
            self._tokens.of(operation, PROVIDER, model, "output").observe(tokens)


def error_of(exchange: Exchange) -> str:
    """Return ``error.type``: the error's code, or how the request ended; empty where it has its answer."""
    if exchange.outcome == "completed":
        return "" if exchange.status == 200 else f"status_{exchange.status}"
    return exchange.error.code if exchange.error is not None else exchange.outcome or "shutdown"
