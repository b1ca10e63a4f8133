"""The names that OpenTelemetry's conventions for generative AI give to operations and providers.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ (status: development). Metrics, traces and the `otel` and `ecs`
formats of the log take their names from here, so that a request is called the same in all of them.
"""

from typing import Final

from proxy.kernel.route import Route

PROVIDER: Final = "ollama"
"""``gen_ai.provider.name``; not among the well-known ones, so it is a name of its own."""


def operation_of(route: Route | None) -> str | None:
    """Return ``gen_ai.operation.name``; None for what runs no model.

    A route of inference that a policy file declares as like no other is just an ``inference``.
    """
    if route is None or route.kind != "inference":
        return None
    return "inference" if route.run is None else route.run.operation
