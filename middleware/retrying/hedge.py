"""Asking a second backend when the first takes long to answer: the first answer wins, the other is called off.

Only for what may be asked twice without harm and is answered in one piece: embeddings.
"""

import asyncio
from collections.abc import Callable
from copy import copy

from proxy.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.exchange import KEY, Exchange


async def hedged(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, after: float, again: Callable[[], bool]
) -> None:
    """Answer by `app`, and by a second run of it where nothing has come `after` so many seconds and `again` says yes.

    Raises what `app` raises: the winner's error where its answer broke off, and where nobody answered the first run's.
    """
    exchange = Exchange.of(scope)
    race = _Race(exchange, send)
    try:
        race.run(app, exchange, scope, receive)
        await race.wait(after)
        if race.open and again():
            exchange.rewind()
            twin = _twin(exchange)
            race.run(app, twin, twin.scope, twin.receive if receive == exchange.receive else receive)
        await race.wait()
    finally:
        await race.call_off()
    race.result()


class _Race:
    """Runs of one request. Who sends first has won; what the others send goes nowhere."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange = exchange
        self._send = send
        self._runs: list[asyncio.Task[None]] = []
        self._winner: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Whether nobody has won or failed yet."""
        return self._winner is None and not any(run.done() for run in self._runs)

    def run(self, app: ASGIApp, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        async def send(message: Message) -> None:
            if self._winner is None:
                self._winner = run
                for other in self._runs:
                    if other is not run:
                        other.cancel()
            if self._winner is not run:
                await asyncio.Future()  # it is being cancelled
            _take_over(self._exchange, exchange)
            await self._send(message)

        async def attempt() -> None:
            try:
                await app(scope, receive, send)
            finally:
                _account_for(self._exchange, exchange)
                if self._winner is run:
                    _take_over(self._exchange, exchange)

        run = asyncio.create_task(attempt())
        self._runs.append(run)

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until the winner is through or everybody failed, or for so long until somebody has won or failed."""
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        while left := [run for run in self._runs if not run.done()]:
            if until is not None and (not self.open or loop.time() >= until):
                return
            timeout = None if until is None else until - loop.time()
            await asyncio.wait(left, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def call_off(self) -> None:
        """End what still runs."""
        for run in self._runs:
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)

    def result(self) -> None:
        """Raise what came of it, where that is no answer."""
        run = self._winner or self._runs[0]
        run.result()


def _twin(exchange: Exchange) -> Exchange:
    """Return a copy of `exchange` for a run beside it: it neither queues nor finishes, and what it finds is its own."""
    twin = copy(exchange)
    twin.scope = {**exchange.scope, KEY: twin}
    twin.tried = exchange.tried.copy()
    twin.history, twin.attempts = [], 0
    twin.ticket = twin.lease = None
    return twin


def _account_for(exchange: Exchange, run: Exchange) -> None:
    """Let `exchange` know where its twin was sent."""
    if run is not exchange:
        exchange.tried += [name for name in run.tried if name not in exchange.tried]
        exchange.history.extend(run.history)
        exchange.attempts += run.attempts


def _take_over(exchange: Exchange, run: Exchange) -> None:
    """Let what the twin got be what `exchange` got."""
    if run is not exchange:
        exchange.backend, exchange.reason = run.backend, run.reason
        exchange.committed, exchange.first_byte_at = run.committed, run.first_byte_at
        exchange.terminated, exchange.usage = run.terminated, run.usage
