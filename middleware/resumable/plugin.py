"""`resumable`: a streamed answer is recorded while it runs, and outlives a broken connection.

The client gets the address of the record in a Link field. `middleware.resumable.recorder` records one answer,
`middleware.resumable.live_records` says for all of them that they are still worked on. The record is read at
``/-/requests/ID/answer``.
"""

from collections.abc import Awaitable
from typing import Annotated

from middleware.resumable.live_records import LiveRecords
from middleware.resumable.recorder import AnswerRecorder, Rules
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.clock import Clock
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.inner_request import is_inner
from proxy.kernel.journal import Journal
from proxy.kernel.keepsakes import Keepsakes
from proxy.kernel.units import Duration, Least, Size, format_duration


class Resumable:
    """Records streamed answers, so that a client whose connection broke gets the rest of its answer.

    The answer says where: `Link: </-/requests/ID/answer>; rel="resume"`, ID being its `X-Request-ID`. A `GET` of that
    address with `Range: bytes=N-` returns what came after the first N bytes of the body, and goes on with what is
    still to come, at any proxy that has the same store. `DELETE /-/requests/ID` ends it at once. Only the identity that
    sent the request may do either. Without the plugin, a client that leaves stops its generation. Put it above
    `streaming` where that sends heartbeats, which are part of the answer; after a heartbeat nothing is recorded.

    Args:
        grace: how long the generation goes on after its connection broke. Once the record was read within this time,
            it goes on to the end; else it is stopped, and the record ends as `cancelled`.
        keep: how many bytes of an answer are recorded. What comes after that is sent, but cannot be resumed: a `GET`
            from there on answers 410, and a client that leaves stops the generation.
        expire: how long the record can be read, counted from its beginning. Where the client stayed until the end, the
            record goes `grace` after it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        journal: Journal,
        clock: Clock,
        keepsakes: Keepsakes,
        grace: Annotated[Duration, Least("1s")] = 30.0,
        keep: Size = 1024 * 1024,
        expire: Annotated[Duration, Least("1m")] = 3600.0,
    ) -> None:
        self.app = app
        live = keepsakes.keep((LiveRecords, journal), lambda: LiveRecords(journal))
        self._rules = Rules(journal, clock, live, grace=grace, keep=keep, expire=expire)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let a recorder see the answer of a request that may stream; no coroutine, and nothing for each chunk."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            route = exchange.route
            if route is not None and route.stream is not None and route.kind == "inference" and not is_inner(scope):
                AnswerRecorder(exchange, self._rules)
        return self.app(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say whether the answer would be recorded."""
        route = exchange.route
        if route is None or route.stream is None or route.kind != "inference":
            return Explanation("skip", "its answer is no stream of a model")
        if route.body != "raw":
            await exchange.body()
        if not exchange.stream:
            return Explanation("skip", "it does not ask for a stream")
        rules = self._rules
        said = f"its answer is recorded up to {rules.keep} bytes, and goes on for {format_duration(rules.grace)} alone"
        return Explanation("pass", said)
