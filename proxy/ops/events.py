"""Events for the listeners of ``GET /-/events``, and the requests that ended last.

Without a listener a request costs only the record of its end; nothing else is made or scheduled. With listeners, each
event is written once for all of them. A listener that is too slow loses events and gets the whole status again, so that
it does not fill the proxy's memory.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Literal

import orjson
import structlog

from proxy.chain.observer import Observer
from proxy.kernel.exchange import Exchange
from proxy.ops.app_protocol import Engine, Loading
from proxy.ops.document_types import Change, Reloaded, Request, Status
from proxy.ops.exchange_document import Facts, past, request_of
from proxy.ops.one_status import one_status
from proxy.ops.report import report
from proxy.pool.health import State

log = structlog.get_logger("ollama_proxy.ops")

Name = Literal["status", "tick", "started", "answered", "finished", "backend", "config", "bye"]

OF_REQUESTS: Final = frozenset({"started", "answered", "finished"})
"""The events that come from the worker that runs the request; each worker sees all others by itself."""
EVERY: Final = 1.0
"""Seconds between two ticks."""
BACKLOG: Final = 512
"""Events that may wait for one listener."""
KEPT: Final = 100
"""The number of finished requests that are kept."""


def written(name: Name, document: object) -> bytes:
    """Return an event in the format of server-sent events."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(document) + b"\n\n"


class Listener:
    """The events that wait for one reader.

    Attributes:
        missed: whether events were dropped because more than `BACKLOG` waited.
        closed: whether no event follows those that wait.
    """

    def __init__(self) -> None:
        self.missed = False
        self.closed = False
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def put(self, event: bytes) -> None:
        """Add an event; drop all that wait where there are too many."""
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            self.missed = True
        self._waiting.append(event)
        self._wake.set()

    def close(self) -> None:
        """End the stream after the events that wait."""
        self.closed = True
        self._wake.set()

    async def take(self) -> bytes:
        """Wait for events and return all that wait; ``b""`` where the listener was closed or missed events."""
        await self._wake.wait()
        self._wake.clear()
        if self.missed:
            self._waiting.clear()
            return b""
        events = b"".join(self._waiting)
        self._waiting.clear()
        return events


class Hub(Observer):
    """Sends events of `engine` to listeners, and ends their streams once the engine takes no more requests."""

    def __init__(self, engine: Engine) -> None:
        self._recent: deque[Facts] = deque(maxlen=KEPT)
        self._engine = engine
        self._pool = engine.pool
        self._listeners: set[Listener] = set()
        self._states: dict[str, State] = {}
        self._loading: Loading | None = None
        self._ticking: asyncio.Task[None] | None = None
        engine.pool.on_free(self.look)
        engine.peers.on("status", self._report)

    @property
    def recent(self) -> list[Request]:
        """The requests that ended last, the latest first."""
        return [past(facts) for facts in self._recent]

    # What the frame reports

    def started(self, exchange: Exchange) -> None:
        """See `Observer.started`."""
        if self._heard and not _own(exchange):
            self.tell("started", request_of(exchange, self._pool))

    def answered(self, exchange: Exchange) -> None:
        """See `Observer.answered`."""
        if self._heard and exchange.first_byte_at is not None:
            self.tell("answered", request_of(exchange, self._pool))

    def finished(self, exchange: Exchange) -> None:
        """See `Observer.finished`."""
        if not _own(exchange):
            facts = Facts(exchange)
            self._recent.appendleft(facts)
            if self._heard:
                self.tell("finished", past(facts))

    @property
    def _heard(self) -> bool:
        """Return whether anybody listens, here or at another worker."""
        return bool(self._listeners) or self._engine.peers.watched

    # The listeners

    def tell(self, name: Name, document: object) -> None:
        """Send an event to all listeners; what a request does, to those at other workers, too."""
        if self._heard:
            event = written(name, document)
            self._put(event)
            if self._engine.peers.watched and name in OF_REQUESTS:
                self._engine.peers.tell(event)

    def _put(self, event: bytes) -> None:
        for listener in self._listeners:
            listener.put(event)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Yield events until the server stops; the first one is the whole status."""
        listener = Listener()
        self._listeners.add(listener)
        if self._ticking is None:
            self._states, self._loading = self._states_now(), self._loading_now()
            self._engine.peers.watch(self._put)
            self._ticking = asyncio.create_task(self._tick())
        try:
            yield written("status", await self.status())
            ended = False
            while not ended:
                events = await listener.take()
                ended = listener.closed  # no event follows those that were taken
                if listener.missed:
                    listener.missed = False
                    events = written("status", await self.status())
                if events:
                    yield events
            yield written("bye", {})
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._ticking is not None:
                self._ticking.cancel()
                self._ticking = None
                self._engine.peers.watch(None)

    def close(self) -> None:
        """End the streams of all listeners."""
        for listener in self._listeners:
            listener.close()

    async def _tick(self) -> None:
        try:
            while self._engine.serving:
                await asyncio.sleep(EVERY)
                self.look()
                self.tell("tick", await self.status(recent=False))
        except Exception:
            log.exception("ticks_failed")
        self._ticking = None
        self.close()

    async def status(self, *, recent: bool = True) -> Status | dict[str, Any]:
        """Return the status of all workers as one; without what rarely changes where not even `recent` is wanted."""
        return one_status(await self._engine.peers.ask("status", recent=recent))

    async def _report(self, about: Mapping[str, Any]) -> Status:
        return await report(self._engine, recent=self.recent if about["recent"] else None)

    def look(self) -> None:
        """Send an event for each backend that changed its state, and for a new policy file."""
        if not self._listeners:
            return
        states, loading = self._states_now(), self._loading_now()
        for backend in self._pool.backends:
            before, state = self._states.get(backend.name, "up"), states[backend.name]
            if state != before:
                self.tell("backend", Change(backend.name, before, state, backend.health.reason))
        if loading is not None and loading is not self._loading:
            self.tell("config", Reloaded(loading.generation, list(loading.problems), list(loading.restart)))
        self._states, self._loading = states, loading

    def _states_now(self) -> dict[str, State]:
        return {backend.name: backend.health.shown for backend in self._pool.backends}

    def _loading_now(self) -> Loading | None:
        reloader = self._engine.reloader
        return None if reloader is None else reloader.last

    def __repr__(self) -> str:
        return f"<Hub {len(self._listeners)} listeners, {len(self._recent)} recent requests>"


def _own(exchange: Exchange) -> bool:
    """Return whether the request is for an ops route, such as the ops page."""
    return exchange.route is not None and exchange.route.kind == "ops"
