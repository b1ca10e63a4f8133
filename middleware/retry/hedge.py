"""Ask a second backend when the first is slow to answer: the first answer wins, and the other attempt is cancelled.

Only for embeddings: they may be asked for twice without harm, and their answer comes in one piece.
"""

import asyncio
from collections.abc import Callable

from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.errors import UpstreamError, let_go
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.retrying import account_for, take_answer


async def hedged(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, after: float, again: Callable[[], bool]
) -> None:
    """Answer by `app`. Start a second run after `after` seconds without an answer, if `again` returns True.

    Raises what `app` raises. If the winner's answer broke off, that is the winner's error. If no run answered, it is
    the error after which the request may not be sent again, or else the error of the first run.
    """
    exchange = Exchange.of(scope)
    race = _Race(exchange, send)
    try:
        race.run(app, exchange, scope, receive)
        await race.wait(after)
        if race.open and again():
            exchange.rewind()
            second = exchange.second_attempt()
            race.run(app, second, second.scope, second.receive if receive == exchange.receive else receive)
        await race.wait()
        race.result()
    finally:
        await race.call_off()


class _Race:
    """Concurrent runs of one request, by exchange. The first run that sends wins; messages of others are dropped."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange = exchange
        self._send = send
        self._runs: dict[Exchange, asyncio.Task[None]] = {}
        self._winner: Exchange | None = None

    @property
    def open(self) -> bool:
        """Return whether no run has won or failed yet."""
        return self._winner is None and not any(run.done() for run in self._runs.values())

    def run(self, app: ASGIApp, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        async def send(message: Message) -> None:
            if self._winner is None:
                self._winner = exchange
                for other, run in self._runs.items():
                    if other is not exchange:
                        run.cancel()
            if self._winner is not exchange:
                await asyncio.Future()  # this run is being cancelled
            self._take_answer(exchange)
            await self._send(message)

        async def attempt() -> None:
            try:
                await app(scope, receive, send)
            finally:
                if exchange is not self._exchange:
                    account_for(exchange, self._exchange)
                if self._winner is exchange:
                    self._take_answer(exchange)

        self._runs[exchange] = run = asyncio.create_task(attempt())
        run.add_done_callback(lambda _: self._part_with(exchange))  # attempt() may never start

    def _take_answer(self, run: Exchange) -> None:
        if run is not self._exchange:
            take_answer(run, self._exchange)

    def _part_with(self, run: Exchange) -> None:
        """Remove a finished second attempt from its scope; otherwise the scope would keep its body in memory."""
        if run is not self._exchange:
            del run.scope[KEY]

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until every run is done. With `seconds`, return at the latest then, or once a run has won or failed."""
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        while left := [run for run in self._runs.values() if not run.done()]:
            if until is not None and (not self.open or loop.time() >= until):
                return
            timeout = None if until is None else until - loop.time()
            await asyncio.wait(left, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def result(self) -> None:
        """Raise the error of the decisive run, if it has one."""
        run = self._winner or self._exchange
        if self._winner is None:
            run = next((one for one, task in self._runs.items() if _is_spent(task)), run)
        self._runs.pop(run).result()

    async def call_off(self) -> None:
        """Cancel the remaining runs and drop all runs: their errors refer to this race, and it to the request."""
        for run in self._runs.values():
            run.cancel()
        try:
            for error in await asyncio.gather(*self._runs.values(), return_exceptions=True):
                if error is not None:
                    let_go(error)
        finally:
            self._runs.clear()


def _is_spent(run: asyncio.Task[None]) -> bool:
    error = None if run.cancelled() else run.exception()
    return isinstance(error, UpstreamError) and error.spent
