"""`responses`: keeps answers of ``/v1/responses``, so that a request can go on from one by `previous_response_id`."""

from collections.abc import Awaitable
from typing import Annotated, Any, Final

import orjson
import structlog

from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import reader_of
from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.background import PREFIX
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.journal import Fenced, Journal, JournalFull
from proxy.kernel.json_edit import edit
from proxy.kernel.log_throttle import Seldom
from proxy.kernel.previous_response import previous_response, previous_response_not_found
from proxy.kernel.response_items import INPUT, PREVIOUS, items_of
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.stored_responses import MOST_TURNS, StoredResponse, find_response, keep_response, response_in
from proxy.kernel.stored_run import stored_run
from proxy.kernel.units import Duration, Least, Size

log = structlog.get_logger("ollama_proxy.responses")

_ENDS: Final = (b"response.completed", b"response.incomplete")
"""What is in the last event of a stream of events. A model may say it, too: so it only says when to look closely."""


class Responses:
    """Keeps the answers of `/v1/responses`, and lets requests go on from them by `previous_response_id`.

    Ollama takes `previous_response_id` and ignores it: the model answers without what was said before. With the plugin,
    the earlier input and output stand in front of the new input. Without it, and for a response that is unknown, has
    expired or is somebody else's, such a request gets 404. A request with `store: false` leaves nothing behind. Only
    the identity that sent a request can go on from its answer. Put it below `auth`, and above `rate_limit` and
    `queue`, which count by the length of the input, and above `defer`, so that what is kept has all that was said.

    Args:
        keep: how long an answer is kept.
        size: the longest conversation that is kept, in bytes of JSON; a longer one cannot be gone on from.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        journal: Journal,
        clock: Clock,
        keep: Annotated[Duration, Least("1m")] = 86400.0,
        size: Size = 4 * 1024 * 1024,
    ) -> None:
        self.app = app
        self._journal = journal
        self._clock = clock
        self._keep = keep
        self._size = size
        self._seldom = Seldom()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Act on a request of a route whose requests can go on from earlier ones; pass on every other."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            route = exchange.route
            if route is not None and route.run is not None and route.run.continues is not None:
                return self._act(exchange, scope, receive, send)
        return self.app(scope, receive, send)

    async def _act(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        await exchange.body()
        document = await exchange.json()
        before = await self._before(exchange)
        stored = document.get("store") is not False and not _in_background(scope)
        if before is not None or stored:
            exchange.edit({})  # takes off a content encoding
            text = await exchange.body()
            if before is not None:
                text = self._joined(exchange, text, before)
            if stored and len(text) <= self._size:
                given = items_of(orjson.loads(text).get(INPUT))
                turns = 1 if before is None else before.turns + 1
                send = _Storing(self, exchange, send, given, turns).send
        await self.app(scope, receive, send)

    async def _before(self, exchange: Exchange) -> StoredResponse | None:
        """Return the response that the request goes on from, None where it begins anew; raises Refused (404, 503)."""
        named = previous_response(exchange)
        if named is None:
            return None
        try:
            found = (
                await find_response(self._journal, reader_of(exchange).owner, named) if isinstance(named, str) else None
            )
        except StoreUnavailable as error:
            raise Refused(
                503,
                "the journal that keeps earlier responses does not answer; try again, or send the whole conversation",
                code=codes.RESPONSES_UNAVAILABLE,
                headers={"retry-after": "2"},
            ) from error
        if found is None:
            raise previous_response_not_found(named)
        return found

    def _joined(self, exchange: Exchange, text: bytes, before: StoredResponse) -> bytes:
        """Return the body with what was said before in front, and put it into the request; raises Refused (413)."""
        joined = before.followed_by(orjson.loads(text).get(INPUT))
        text = edit(text, {INPUT: joined, PREVIOUS: None})
        if len(text) > self._size or before.turns >= MOST_TURNS:
            raise Refused(
                413,
                f"the conversation is longer than the {self._size} bytes, or the {MOST_TURNS} answers, that are kept: "
                "send what the model needs in input, without previous_response_id",
                code=codes.CONVERSATION_TOO_LONG,
            )
        exchange.put_body(text)
        return text

    async def store(self, exchange: Exchange, answer: bytes, given: list[Any], turns: int) -> None:
        """Keep the response of a whole answer; where that fails it is logged, and the answer goes on."""
        response = response_in(answer)
        if response is None:
            return
        stored = StoredResponse(given, response, turns)
        try:
            await keep_response(self._journal, reader_of(exchange), stored, now=self._clock.time(), seconds=self._keep)
        except (StoreUnavailable, JournalFull, Fenced) as error:
            if (left_out := self._seldom.left_out()) is not None:
                log.warning("response_not_kept", request_id=exchange.id, error=str(error), left_out=left_out)

    def most(self) -> int:
        """Return the bytes of an answer that are gathered to be kept."""
        return self._size

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say whether the request goes on from an earlier answer."""
        route = exchange.route
        if route is None or route.run is None or route.run.continues is None:
            return Explanation("skip", "its requests go on from no earlier answer")
        await exchange.body()
        if previous_response(exchange) is None:
            return Explanation("pass", "it goes on from no earlier answer")
        try:
            await self._before(exchange)
        except Refused as refused:
            return Explanation("refuse", refused.message)
        return Explanation("change", "what was said before is put in front of its input")


def _in_background(scope: Scope) -> bool:
    """Return whether the request runs for a response in background mode, which the journal has under its own id."""
    run = stored_run(scope)
    return run is not None and run.id.startswith(PREFIX)


class _Storing:
    """Gathers an answer, and has it kept before the client gets its end: the next request may come at once."""

    def __init__(self, plugin: Responses, exchange: Exchange, send: Send, given: list[Any], turns: int) -> None:
        self._plugin = plugin
        self._exchange = exchange
        self._send = send
        self._given = given
        self._turns = turns
        self._parts: list[bytes] = []
        self._length = 0
        self._done = self._ends = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._done = message["status"] != 200
        elif not self._done:
            body = message.get("body", b"")
            self._parts.append(body)
            self._length += len(body)
            if self._length > self._plugin.most():
                self._end()
            elif self._ends or not message.get("more_body", False) or any(map(body.__contains__, _ENDS)):
                self._ends = True
                answer, given = b"".join(self._parts), self._given
                if response_in(answer) is not None:
                    self._end()
                    await self._plugin.store(self._exchange, answer, given, self._turns)
        await self._send(message)

    def _end(self) -> None:
        self._done = True
        self._parts = []
        self._given = []
