"""`metrics`: counts every request at its end.

The plugin does nothing while a request runs, and nothing per chunk. The service `Metrics` does the counting, and
measures everything that needs no plugin; ``/-/metrics`` shows the result.
"""

from collections.abc import Awaitable

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.exchange import Exchange
from proxy.kernel.metrics import Metrics as Service


class Metrics:
    """Counts requests, their tokens and times, for Prometheus."""

    def __init__(self, app: ASGIApp, *, metrics: Service) -> None:
        self.app = app
        self._count = metrics.count

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Register the request to be counted at its end. No coroutine: one more would slow down every chunk."""
        if scope["type"] == "http":
            Exchange.of(scope).on_finish(self._count)
        return self.app(scope, receive, send)
