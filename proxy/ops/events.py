"""What happens, told to those who listen, and what happened last.

Nobody listens most of the time: then a request costs the record of its end, and nothing else is made or scheduled.
While somebody does, each event is written once for all. A listener that does not keep up loses what it missed, not the
proxy's memory: it is given the whole status again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final, Literal

import orjson
import structlog

from proxy.chain.frame import Observer
from proxy.kernel.exchange import Exchange
from proxy.ops.app_protocol import Engine, Loading
from proxy.ops.document_types import Change, Reloaded, Request, Status
from proxy.ops.report import report
from proxy.ops.request_document import Facts, past, request_of
from proxy.pool.health import State

log = structlog.get_logger("ollama_proxy.ops")

Name = Literal["status", "tick", "started", "answered", "finished", "backend", "config", "bye"]

EVERY: Final = 1.0
"""Seconds between two ticks."""
BACKLOG: Final = 512
"""Events that may wait for one listener."""
KEPT: Final = 100
"""Finished requests that are remembered."""


def written(name: Name, document: object) -> bytes:
    """Return one server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(document) + b"\n\n"


class Listener:
    """Events that wait for one reader; `missed` says that there were more than could."""

    def __init__(self) -> None:
        self.missed = False
        self.closed = False
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def put(self, event: bytes) -> None:
        """Add one event."""
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            self.missed = True
        self._waiting.append(event)
        self._wake.set()

    def close(self) -> None:
        """Let it end behind what waits."""
        self.closed = True
        self._wake.set()

    async def take(self) -> bytes:
        """Wait for events and return all there are; nothing where it was closed or missed some."""
        await self._wake.wait()
        self._wake.clear()
        if self.missed:
            self._waiting.clear()
            return b""
        events = b"".join(self._waiting)
        self._waiting.clear()
        return events


class Hub(Observer):
    """Tells listeners what happens to `engine`, and sends them away once it takes no requests any more."""

    def __init__(self, engine: Engine) -> None:
        self._recent: deque[Facts] = deque(maxlen=KEPT)
        self._engine = engine
        self._pool = engine.pool
        self._listeners: set[Listener] = set()
        self._states: dict[str, State] = {}
        self._loading: Loading | None = None
        self._ticking: asyncio.Task[None] | None = None
        engine.pool.on_free(self.look)

    @property
    def recent(self) -> list[Request]:
        """Requests that ended last, the latest first."""
        return [past(facts) for facts in self._recent]

    # What the frame tells

    def started(self, exchange: Exchange) -> None:
        """See `Observer.started`."""
        if self._listeners and not _own(exchange):
            self.tell("started", request_of(exchange, self._pool))

    def answered(self, exchange: Exchange) -> None:
        """See `Observer.answered`."""
        if self._listeners and exchange.first_byte_at is not None:
            self.tell("answered", request_of(exchange, self._pool))

    def finished(self, exchange: Exchange) -> None:
        """See `Observer.finished`."""
        if not _own(exchange):
            facts = Facts(exchange)
            self._recent.appendleft(facts)
            if self._listeners:
                self.tell("finished", past(facts))

    # Telling

    def tell(self, name: Name, document: object) -> None:
        """Tell all listeners."""
        if self._listeners:
            event = written(name, document)
            for listener in self._listeners:
                listener.put(event)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Yield events, the whole status first, until the server stops."""
        listener = Listener()
        self._listeners.add(listener)
        if self._ticking is None:
            self._states, self._loading = self._states_now(), self._loading_now()
            self._ticking = asyncio.create_task(self._tick())
        try:
            yield written("status", await self._status())
            ended = False
            while not ended:
                events = await listener.take()
                ended = listener.closed  # nothing comes behind what was taken
                if listener.missed:
                    listener.missed = False
                    events = written("status", await self._status())
                if events:
                    yield events
            yield written("bye", {})
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._ticking is not None:
                self._ticking.cancel()
                self._ticking = None

    def close(self) -> None:
        """Send all listeners away."""
        for listener in self._listeners:
            listener.close()

    async def _tick(self) -> None:
        try:
            while self._engine.serving:
                await asyncio.sleep(EVERY)
                self.look()
                self.tell("tick", await report(self._engine, recent=None))
        except Exception:
            log.exception("ticks_failed")
        self._ticking = None
        self.close()

    async def _status(self) -> Status:
        return await report(self._engine, recent=self.recent)

    def look(self) -> None:
        """Tell what has changed: states of backends, the policy file."""
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
    """Whether it is a request about the proxy itself, such as a look at this page."""
    return exchange.route is not None and exchange.route.kind == "ops"
