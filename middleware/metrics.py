"""`metrics`: counts every request when it is over.

Nothing is done while a request runs and nothing per chunk. Where the counting is done, and all that is measured without
this plugin, is the service `Metrics`; ``/-/metrics`` shows it.
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
        """Have the request counted at its end. Not a coroutine of its own: each would cost every chunk a little."""
        if scope["type"] == "http":
            Exchange.of(scope).on_finish(self._count)
        return self.app(scope, receive, send)
