"""What all proxies on one Redis share: the slots of the backends, saved retries, and the news of ejections.

A proxy runs a request on a backend only while it holds a permit for it, of which there are as many as the backend has
`slots`. One task calls the server: soon after something changed, all changes of one turn of the event loop in one call;
otherwise from time to time, to renew. A permit whose request has ended stays for `LINGER` seconds, so that the next
request needs no call; but where somebody waits elsewhere it goes back at once, and the server grants it to the waiter
whose turn it is.

The same calls carry the retries that each proxy saved, to be divided among all, and the backends that it ejected, so
that the others probe those soon.

Without the server each proxy goes on with its local share (`proxy.fleet.local_share`).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import structlog

from proxy.fleet.local_share import LONGEST, QUIET, Place, local_share
from proxy.fleet.proxy_parts import SavedRetries, Shared, SharedPool, Waiters
from proxy.fleet.server import AGAIN, WITHIN, Held, Said, Server
from proxy.kernel.shared_line import Demand, SharedLine
from proxy.stores.redis_caller import FAILURES

log = structlog.get_logger("ollama_proxy.fleet")

TTL: Final = 4.0
"""Seconds after which the permits of a dead proxy are given to others."""
RENEW: Final = 1.2
"""Seconds between two calls of a proxy where nothing changes."""
POLL: Final = 0.5
"""Seconds between two calls while somebody waits here, in case a message was lost."""
LINGER: Final = 0.1
"""Seconds for which an unused permit stays at the proxy."""
SETTLE: Final = 1.7
"""Seconds that all proxies have to say what they run after the server forgot; each renews and tries again in less."""
LOOKED_AT: Final = 50
"""Backends that a call which only renews asks about, besides those in use."""


@dataclass(slots=True)
class _Known:
    """The last exchange about one backend: grants seen, and permits that were reported."""

    seen: int = 0
    reported: int = 0
    slots: int = 0  # when it was last in use
    held: int = 0  # when the server was lost
    elsewhere: int = 0  # then


class Fleet(SharedLine):
    """Holds the permits of this proxy.

    Args:
        url: URL of the server.
        pool: the backends.
        waiters: the requests that wait for their slots.
        retries: the retry budget.

    Attributes:
        place: the place of this proxy among all, as last seen; None before it saw them.
    """

    def __init__(self, url: str, pool: SharedPool, waiters: Waiters, retries: SavedRetries) -> None:
        self._up = True
        self.place: Place | None = None
        self._server = Server(url, ttl=TTL, quiet=QUIET, settle=SETTLE)
        self._pool, self._waiters, self._retries = pool, waiters, retries
        self._known: dict[str, _Known] = {}
        self._asking: list[tuple[Demand, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trimming: asyncio.TimerHandle | None = None
        self._spoke_at = monotonic()
        self._lost_at = 0.0
        self._waiting = self._untold = False
        self._looked = 0
        self._settling = 0.0
        self._ejected_elsewhere: set[str] = set()

    def start(self) -> None:
        """Begin to share; before that a backend has no permits."""
        self._backends()
        self._server.listen(self._told, self._wake.set)
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Give back all permits and saved retries, and leave."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._trimming is not None:
            self._trimming.cancel()
        for _, asked in self._asking:
            asked.cancel()
        if self.up:
            with suppress(*FAILURES):
                held = [(url, backend.slots or 0, 0, 0, 0) for url, backend in self._backends().items()]
                await self._server.share(Said(held, retries=self._retries.saved), leaves=True)
        await self._server.aclose()

    @property
    def up(self) -> bool:
        """See `SharedLine.up`."""
        return self._up

    @property
    def proxies(self) -> int:
        """See `SharedLine.proxies`."""
        return 1 if self.place is None else self.place.alive

    # News from here

    def changed(self, *, behind: bool = False) -> None:
        """See `SharedLine.changed`."""
        if behind:
            self._untold = True  # the next call tells: as many as are waited for here are known there
        else:
            self._wake.set()

    def freed(self) -> None:
        """Note that a request may have ended: its permit lingers, or has to go back."""
        if not self.up:
            return
        leaving = self._leaving()
        for url, backend in self._backends().items():
            held = max(backend.permits or 0, backend.active)
            if held + leaving[url] < self._known[url].reported:
                self._wake.set()
            if held > backend.active and self._trimming is None:
                self._trimming = asyncio.get_running_loop().call_later(LINGER, self._trim)

    async def ask(self, demand: Demand) -> None:
        """Ask for a permit for a request that does not wait in the queue.

        Return when the server has answered; while it still learns what runs, when it has. Return at once while it is
        away: the local share says already what may run.
        """
        if not self.up:
            return
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking.append((demand, asked))
        self._wake.set()
        await asked

    def _trim(self) -> None:
        """Give back the permits that were not used since the last call."""
        self._trimming = None
        idle = False
        for backend in self._backends().values():
            used = max(backend.peak, backend.active)
            if self.up and backend.permits is not None and backend.permits > used:
                backend.permits = used
                self._wake.set()
            idle = idle or (backend.permits or 0) > backend.active
            backend.peak = backend.active
        if idle and self.up:
            self._trimming = asyncio.get_running_loop().call_later(LINGER, self._trim)

    # Calls

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next() - monotonic())):
                    await self._wake.wait()
            await asyncio.sleep(0)  # the other changes of this turn go along
            asked, self._asking = self._asking, []
            pause = 0.0
            try:
                await self._call([demand for demand, _ in asked])
                if self._settling:
                    self._asking, asked = [*asked, *self._asking], []
            except Exception as error:  # whatever it is, requests go on with the local share
                self._settling = 0.0
                self._lose(error)
                pause = AGAIN
            finally:
                for _, future in asked:
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(pause)

    def _next(self) -> float:
        if not self.up:
            return 0.0
        pause = POLL if self._waiting else RENEW
        return self._spoke_at + (min(pause, self._settling) if self._settling else pause)

    async def _call(self, asked: Sequence[Demand]) -> None:
        renews = not self._wake.is_set()
        self._wake.clear()
        fresh = self.up and monotonic() - self._spoke_at < TTL - WITHIN - AGAIN  # else others may have the permits
        demands, self._untold = [*self._waiters.demands(), *asked], False
        backends = self._backends()
        leaving = self._leaving()
        wanted = {url for demand in demands for url in demand.backends}
        looked_at = self._next_looked_at(list(backends)) if renews else ()
        held: list[Held] = []
        for url, backend in backends.items():
            known = self._known[url]
            permits = (max(backend.permits or 0, backend.active) if fresh else backend.active) + leaving[url]
            if permits or known.reported or url in wanted or url in looked_at:
                held.append((url, backend.slots or 0, permits, known.seen, self._local(backend, known)))
        for url, known in self._known.items():
            if url not in backends and (known.reported or leaving[url]):
                held.append((url, known.slots, leaving[url], known.seen, 0))
        saved = self._retries.saved
        ejected = [backend.place for backend in self._pool.backends if backend.ejected]
        reply = await self._server.share(Said(held, demands, saved, ejected))
        if "late" in reply:
            return
        self._spoke_at = monotonic()
        self._retries.move(float(reply["retries"]) - saved)
        self._waiting = bool(demands)
        if not fresh:
            for url, _, permits, _, _ in held:
                if url in backends:
                    backends[url].permits = max(permits - leaving[url], backends[url].active)
        for url, _, permits, seen, _ in held:
            known = self._known[url]
            known.reported = permits + known.seen - seen  # with what was told during the call
        self._learn(reply)

    def _next_looked_at(self, urls: Sequence[str]) -> Sequence[str]:
        start = self._looked % max(1, len(urls))
        self._looked = start + LOOKED_AT
        return [*urls[start:], *urls[:start]][:LOOKED_AT]

    def _learn(self, reply: dict[str, Any]) -> None:
        self._settling = float(reply["settling"])
        if not self._settling:  # else the others may not be back yet
            self.place = Place(reply["alive"], reply["rank"])
            self._retries.shared_by(self.place.alive)
        backends, tenants, new, room = self._backends(), list(reply["tenants"]), 0, False
        for url, grants, elsewhere, others_wait in reply["backends"]:
            backend = backends.get(url)
            if backend is not None:
                room = room or elsewhere < backend.elsewhere
                backend.elsewhere, backend.contended = elsewhere, others_wait
            new += self._take(url, backend, grants)
        self._look_at(set(reply["ejected"]))
        if new > len(tenants):  # some were granted before, and the server took as many waiters as served
            self._wake.set()
        if not self.up:
            self._up = True
            for url, backend in backends.items():
                backend.permits = min(backend.permits or 0, max(self._known[url].reported, backend.active))
            log.info("fleet_back", store=self._server.url, proxies=self.proxies)
        self._used(tenants)
        if room:
            self._pool.changed()

    def _look_at(self, ejected: set[str]) -> None:
        """Probe what other proxies have ejected since the last call."""
        new = ejected - self._ejected_elsewhere
        for backend in self._pool.backends:
            if backend.place in new and not backend.ejected:
                log.info("backend_ejected_elsewhere", backend=backend.name)
                self._pool.hint(backend.name)
        self._ejected_elsewhere = ejected

    def _told(self, message: dict[str, Any]) -> None:
        if not self.up:
            return
        backends = self._backends()
        for url in message["wanted"]:
            if url in backends:
                backend = backends[url]
                backend.contended = True
                if (backend.permits or 0) > backend.active:
                    backend.permits = backend.active
                    self._wake.set()
        tenants = []
        for url, grants, tenant in message["grants"]:
            if url in self._known and self._take(url, backends.get(url), grants):
                tenants.append(tenant)
        if tenants and self._untold:
            self._wake.set()
        self._used(tenants)

    def _take(self, url: str, backend: Shared | None, grants: int) -> int:
        """Take the permits that were granted since, and return how many of them can be used.

        Args:
            url: the backend's URL.
            backend: the backend; None where it is not in use any more, so that its permits go back with the next call.
            grants: how many were ever granted.
        """
        known = self._known[url]
        new = max(0, grants - known.seen)
        known.seen += new
        known.reported += new
        if backend is None:
            if new:
                self._wake.set()
            return 0
        backend.permits = (backend.permits or 0) + new
        return new

    def _used(self, tenants: Sequence[str]) -> None:
        """Let the waiters use what was granted; what they leave lingers, and then goes back."""
        self._waiters.granted(tenants)
        self.freed()

    # Without the server

    def _lose(self, error: BaseException) -> None:
        if self.up:
            self._up, self._lost_at = False, monotonic()
            for url, backend in self._backends().items():
                known = self._known[url]
                known.held, known.elsewhere = max(backend.permits or 0, backend.active), backend.elsewhere
                backend.contended = False
            log.warning("fleet_lost", store=self._server.url, error=type(error).__name__, proxies=self.proxies)
        for url, backend in self._backends().items():
            backend.permits = self._local(backend, self._known[url])
            backend.elsewhere = (backend.slots or 0) - backend.permits
        self._waiters.granted(())
        self._pool.changed()

    def _local(self, backend: Shared, known: _Known) -> int:
        """Return the local share of a backend."""
        slots = backend.slots or 0
        if self.up:
            return local_share(slots, known.reported, backend.elsewhere, self.place, QUIET, usual=LONGEST)
        lost_for, usual = monotonic() - self._lost_at, self._pool.usual_seconds()
        return local_share(slots, known.held, known.elsewhere, self.place, lost_for, usual)

    def _backends(self) -> dict[str, Shared]:
        """Return the backends whose slots are shared, by URL; one that is new has them for what it runs."""
        shared: dict[str, Shared] = {}
        for backend in self._pool.backends:
            if backend.slots is None:
                backend.permits = None
                continue
            if backend.permits is None:
                backend.permits = backend.peak = backend.active
            self._known.setdefault(backend.place, _Known()).slots = backend.slots
            shared[backend.place] = backend
        return shared

    def _leaving(self) -> Counter[str]:
        """Return the requests that still run on backends which a reload took out, by URL."""
        leaving = Counter[str]()
        for backend in self._pool.leaving:
            leaving[backend.place] += backend.active
        return leaving
