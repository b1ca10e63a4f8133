"""Sending a request so that a connection which was closed under us is nobody's problem."""

from collections.abc import Callable

import httpx

from proxy.kernel.errors import ConnectionLost, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import Route
from proxy.upstream.failures import translated


def at_once(exchange: Exchange, route: Route, error: ConnectionLost) -> bool:
    """Whether what was lost on a kept connection goes to the same backend again at once.

    It does not where it may have arrived and something above sends it again, or it was lost before.
    """
    return route.repeat != "never" and not (error.sent and (exchange.resend or exchange.failed))


def always(error: ConnectionLost) -> bool:
    """Whether it goes again: for questions, which do no harm however often they arrive."""
    return True


async def send(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    *,
    repeat: Callable[[ConnectionLost], bool] = always,
    lost: Callable[[ConnectionLost], None] | None = None,
) -> httpx.Response:
    """Send `request`; once more at once where a kept-alive connection turned out to be closed and `repeat` says yes.

    A backend may close an idle connection at any moment, also while a request is on its way to it (RFC 9112 section
    9.3.1). `repeat` is asked when that has happened: much may have happened since the request was sent. `lost` is told
    of what may have reached the backend all the same. Raises UpstreamError.
    """
    try:
        with translated():
            return await transport.handle_async_request(request)
    except ConnectionLost as failure:
        if not (failure.reused and repeat(failure)):
            raise
        let_go(failure)
        if failure.sent and lost is not None:
            lost(failure)
    request.extensions["fresh"] = True
    with translated():
        return await transport.handle_async_request(request)
