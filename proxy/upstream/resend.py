"""Sending a request again at once where the backend had closed the connection that was kept for it."""

from collections.abc import Callable

import httpx

from proxy.kernel.errors import ConnectionLost, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import Route
from proxy.upstream.transport import translate


def at_once(exchange: Exchange, route: Route, error: ConnectionLost) -> bool:
    """Return whether a request that was lost on a kept connection goes to the same backend again at once.

    It does not where it may have arrived and the `retry` plugin sends it again, or where it was lost before.
    """
    return route.repeat != "never" and not (error.sent and (exchange.resend or exchange.failed))


def always(error: ConnectionLost) -> bool:
    """Return True: questions do no harm however often they arrive."""
    return True


async def send_or_resend(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    *,
    repeat: Callable[[ConnectionLost], bool] = always,
    lost: Callable[[ConnectionLost], None] | None = None,
) -> httpx.Response:
    """Send `request`, and once more on a fresh connection where a kept one turned out to be closed.

    A backend may close an idle connection at any moment, also while a request is on its way to it (RFC 9112 section
    9.3.1). Raises what the transport raises.

    Args:
        transport: the transport to the backend.
        request: may be sent twice.
        repeat: says whether to send again; it is asked after the loss, as much may have happened since the sending.
        lost: is told of a request that may have reached the backend all the same.
    """
    try:
        return await transport.handle_async_request(request)
    except (httpx.HTTPError, OSError) as error:
        failure = translate(error)
        if not (isinstance(failure, ConnectionLost) and failure.reused and repeat(failure)):
            raise
        let_go(error)
        if failure.sent and lost is not None:
            lost(failure)
    request.extensions["fresh"] = True
    return await transport.handle_async_request(request)
