"""Sending a request so that a connection which was closed under us is nobody's problem."""

from collections.abc import Callable

import httpx

from proxy.errors import ConnectionLost, let_go
from proxy.transport import translate


async def send(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    *,
    repeat: bool,
    lost: Callable[[ConnectionLost], None] | None = None,
) -> httpx.Response:
    """Send `request`; once more at once where a kept-alive connection turned out to be closed and it may be repeated.

    A backend may close an idle connection at any moment, also while a request is on its way to it (RFC 9112 section
    9.3.1). `lost` is told of what may have reached the backend all the same. Raises what the transport raises.
    """
    try:
        return await transport.handle_async_request(request)
    except (httpx.HTTPError, OSError) as error:
        failure = translate(error)
        if not (repeat and isinstance(failure, ConnectionLost) and failure.reused):
            raise
        let_go(error)
        if failure.sent and lost is not None:
            lost(failure)
    request.extensions["fresh"] = True
    return await transport.handle_async_request(request)
