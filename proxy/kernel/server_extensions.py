"""Extensions of our server beyond ASGI: it tells at once that a client has gone, and takes a chunk at once.

ASGI says ``http.disconnect`` to who waits in `receive`, and to nobody while a place in a queue, a connection or a token
is awaited. Our server also calls back, in every state of a request, and knows when it was itself that hung up.

ASGI's `send` is awaited in a task, which has to be woken for every chunk. Our server also takes chunks from whoever
has them, as long as the client keeps up.
"""

from collections.abc import Callable
from typing import Any, Final

from proxy.kernel.asgi import Scope
from proxy.kernel.errors import ProxyError

REASON: Final = "gone"
REGISTER: Final = "when_gone"
WRITE: Final = "write"
"""Keys of ``scope["state"]``."""


def when_gone(scope: Scope, callback: Callable[[], None]) -> bool:
    """Run `callback` once, in the event loop, when the client goes before its answer is complete.

    One callback per request, set before the answer is complete. Returns False under a server that cannot do so; then
    only `receive` tells.
    """
    register = _take(scope, REGISTER)
    if register is None:
        return False
    register(callback)
    return True


def writer(scope: Scope) -> Callable[[bytes], bool] | None:
    """Return, once, what writes a chunk of an answer that has begun and is chunked; None where only `send` does.

    It returns whether the client keeps up; where it does not, `send` is to be awaited for the next chunk.
    """
    write: Callable[[bytes], bool] | None = _take(scope, WRITE)
    return write


def gone_because(scope: Scope) -> ProxyError | None:
    """Return why the server itself hung up on this request, None where it was the client that left.

    Its code is ``write_timeout``: the client stopped reading; ``pipeline_overflow``: it sent too much behind the
    request; ``shutdown``: the time to drain is up, and the request is cancelled; or that of what was wrong with its
    body: ``malformed_request``, ``body_timeout``, ``bad_chunk_overhead``. Known when ``http.disconnect`` is.
    """
    reason: ProxyError | None = scope.get("state", {}).get(REASON)
    return reason


def _take(scope: Scope, key: str) -> Any:
    """Take something out that leads back to the connection: a cycle would keep both until the collector comes."""
    return scope.get("state", {}).pop(key, None)
