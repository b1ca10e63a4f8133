"""How our server tells an application that a client has gone, beyond what ASGI tells.

ASGI says ``http.disconnect`` to who waits in `receive`, and to nobody while a place in a queue, a connection or a token
is awaited. Our server also calls back, in every state of a request, and knows when it was itself that hung up.
"""

from collections.abc import Callable
from typing import Final

from proxy.asgi import Scope
from proxy.errors import ProxyError

REASON: Final = "gone"
REGISTER: Final = "when_gone"
"""Keys of ``scope["state"]``."""


def when_gone(scope: Scope, callback: Callable[[], None]) -> bool:
    """Run `callback` once, in the event loop, when the client goes before its answer is complete.

    One callback per request, set before the answer is complete. Returns False under a server that cannot do so; then
    only `receive` tells.
    """
    register = scope.get("state", {}).get(REGISTER)
    if register is None:
        return False
    register(callback)
    return True


def gone_because(scope: Scope) -> ProxyError | None:
    """Return why the server itself hung up on this request, None where it was the client that left.

    Its code is ``write_timeout``: the client stopped reading; ``pipeline_overflow``: it sent too much behind the
    request; ``shutdown``: the time to drain is up, and the request is cancelled; or that of what was wrong with its
    body: ``malformed_request``, ``body_timeout``, ``bad_chunk_overhead``. Known when ``http.disconnect`` is.
    """
    reason: ProxyError | None = scope.get("state", {}).get(REASON)
    return reason
