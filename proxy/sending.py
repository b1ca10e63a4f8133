"""Sending a request so that a connection which was closed under us is nobody's problem."""

import httpx

from proxy.errors import ConnectionLost, let_go
from proxy.transport import translate


async def send(transport: httpx.AsyncBaseTransport, request: httpx.Request, *, repeat: bool) -> httpx.Response:
    """Send `request`; once more at once where a kept-alive connection turned out to be closed and it may be repeated.

    A backend may close an idle connection at any moment, also while a request is on its way to it (RFC 9112 section
    9.3.1). Raises what the transport raises.
    """
    try:
        return await transport.handle_async_request(request)
    except (httpx.HTTPError, OSError) as error:
        failure = translate(error)
        if not (repeat and isinstance(failure, ConnectionLost) and failure.reused):
            raise
        let_go(error)
    request.extensions["fresh"] = True
    return await transport.handle_async_request(request)
