"""The names that OpenTelemetry's conventions for generative AI give to operations and providers.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ (status: development). Metrics, traces and the `otel` and `ecs`
formats of the log take their names from here, so that a request is called the same in all of them.
"""

from collections.abc import Mapping
from typing import Final

from proxy.kernel.routes import Route

PROVIDER: Final = "ollama"
"""``gen_ai.provider.name``; not among the well-known ones, so it is a name of its own."""

_OPERATIONS: Final[Mapping[str, str]] = {
    "/api/chat": "chat",
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/api/generate": "text_completion",
    "/v1/completions": "text_completion",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
    "/v1/embeddings": "embeddings",
    "/v1/audio/transcriptions": "transcription",
}


def operation_of(route: Route | None) -> str | None:
    """Return ``gen_ai.operation.name``; None for what runs no model.

    A route of inference that a policy file added is just an ``inference``.
    """
    if route is None or route.kind != "inference":
        return None
    return _OPERATIONS.get(route.path, "inference")
