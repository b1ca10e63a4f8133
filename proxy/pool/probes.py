"""Probe every backend at an interval: fetch its version, its models, and the models in its memory."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final

import structlog

from proxy.kernel.derived_models import base_key
from proxy.kernel.errors import BadAnswer, UpstreamError, UpstreamTimeout, let_go
from proxy.pool.backend import Backend, compare
from proxy.pool.backend_api import entries_of, fetch_json, models_by_key
from proxy.pool.health import State
from proxy.pool.pool import Pool
from proxy.pool.residency import Resident
from proxy.pool.silence_watch import SilenceWatch
from proxy.upstream.transport import Transport

log = structlog.get_logger("ollama_proxy.pool")

JITTER: Final = 0.2
"""The share of the interval by which a probe may come sooner or later, so that probes do not come all at once."""
SOONER: Final = 5
"""A suspect is probed this many times as often, so that a dead backend is down within one interval."""
SOONEST: Final = 1.0
"""Least seconds between two probes of a backend, so that probes do not add to the trouble of a sick host."""
HABIT: Final = 2
"""Intervals within which a backend that closes idle connections again does so as usual, and not because it died."""


class Probes:
    """Probes each backend in a task of its own. A probe starts when the one before it has ended, so they never pile up.

    One that was taken out of the pool is probed until its last request has ended, so that these do not wait in vain.

    A backend that closes an idle connection is probed at once, so a killed backend is down well within the interval.
    Some backends close every connection after a while, or after each response: one that does so again and again is
    probed at the interval only.

    A backend that owes a first byte and is silent is probed too, and its requests move once it is down: see
    `proxy.pool.silence_watch`.

    Args:
        pool: the pool with the backends to probe.
        every: seconds between two probes.
        timeout: seconds that a probe may take.
    """

    def __init__(self, pool: Pool, *, every: float, timeout: float) -> None:
        self._pool = pool
        self._every = every
        self._timeout = timeout
        self._tasks: dict[Backend, asyncio.Task[None]] = {}
        self._wake: dict[Backend, asyncio.Event] = {}
        self._hung_up: dict[Backend, float] = {}  # when it last closed an idle connection
        self._shown: dict[Backend, State] = {}
        self._silence = SilenceWatch(pool, self.refresh)
        self._watching: asyncio.Task[None] | None = None
        pool.on_stale(self.refresh)

    @property
    def oldest(self) -> float:
        """Seconds after which the result of a probe counts as outdated."""
        return 3 * self._every + self._timeout

    def start(self) -> None:
        """Probe the backends that the pool has now: begin with the new ones, stop with those that were removed."""
        for backend in [one for one in self._tasks if not self._is_watched(one)]:
            self._tasks[backend].cancel()
            self._forget(backend)
        self._pool.first_round.expect(backend for backend in self._pool.backends if backend not in self._tasks)
        if self._watching is None:
            self._watching = asyncio.create_task(self._silence.run(lambda: (self._soonest, self._every)))
        for backend in self._pool.backends:
            if isinstance(backend.transport, Transport):
                backend.transport.on_hung_up = partial(self.hung_up, backend)
            if backend not in self._tasks:
                self._tasks[backend] = asyncio.create_task(self._watch(backend))

    def _is_watched(self, backend: Backend) -> bool:
        return backend in self._pool.backends or backend.leases > 0

    def _forget(self, backend: Backend) -> None:
        for known in (self._tasks, self._wake, self._hung_up, self._shown):
            known.pop(backend, None)
        self._silence.forget(backend)
        self._pool.first_round.ended(backend)

    def pace(self, *, every: float, timeout: float) -> None:
        """Set interval and time-out, from the next probe on."""
        self._every, self._timeout = every, timeout

    async def stop(self) -> None:
        """Stop all probes."""
        tasks = [*self._tasks.values(), *([] if self._watching is None else [self._watching])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._watching = None

    @property
    def _soonest(self) -> float:
        """Least seconds between two probes of a backend."""
        return min(SOONEST, self._every / SOONER)

    def refresh(self, backend: Backend) -> bool:
        """Probe `backend` soon, as what is known of it may be outdated; return False where nobody probes it."""
        wake = self._wake.get(backend)
        if wake is None:
            return False
        wake.set()
        return True

    def hung_up(self, backend: Backend) -> None:
        """Probe `backend`, which closed an idle connection, soon, unless it closed another one recently.

        Probes use connections too: if each closed connection caused a probe, the probes would never end.
        """
        now = monotonic()
        before, self._hung_up[backend] = self._hung_up.get(backend, -inf), now
        if now - before > HABIT * self._every:
            self.refresh(backend)

    async def _watch(self, backend: Backend) -> None:
        wake = self._wake[backend] = asyncio.Event()
        while self._is_watched(backend):
            wake.clear()
            asked_at = monotonic()
            try:
                await self.look(backend)
                await self._pool.close_retired()
            except Exception:
                log.exception("watch_failed", backend=backend.name)  # a bug in the proxy must not end the probes
            finally:
                self._pool.first_round.ended(backend)
            pause = self._every / (SOONER if backend.health.state == "suspect" else 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(1 - JITTER, 1 + JITTER)):
                    await wake.wait()
            await asyncio.sleep(asked_at + self._soonest - monotonic())
        self._forget(backend)

    async def look(self, backend: Backend) -> None:
        """Probe `backend` once and note the result.

        A backend that says its version is alive, even if its lists take too long: Ollama may answer ``/api/ps`` late
        while it starts a runner.
        """
        asked_at, version = monotonic(), None
        try:
            async with asyncio.timeout(self._timeout):
                version = await fetch_json(backend, b"/api/version", timeout=self._timeout)
                tags = await fetch_json(backend, b"/api/tags", timeout=self._timeout)
                running = await self._running(backend)
        except (TimeoutError, UpstreamTimeout) as error:
            if version is None:
                self._did_not_answer(backend, f"no answer within {self._timeout:g} s")
            else:
                backend.health.probe_succeeded(monotonic())
            let_go(error)
        except UpstreamError as error:
            self._did_not_answer(backend, error.detail)
        else:
            if asked_at >= backend.asked_at:  # else a later probe was answered sooner
                backend.asked_at = asked_at
                _learn(backend, version, tags, running)
            backend.seen_at = monotonic()
            backend.health.probe_succeeded(backend.seen_at)
        compare(self._pool.backends, monotonic())
        self._tell(backend)
        self._pool.changed()
        self._silence.look(self._soonest, self._every)

    def _did_not_answer(self, backend: Backend, reason: str) -> None:
        backend.health.probe_failed(monotonic(), reason)
        if backend.health.state == "down":
            backend.residency.clear()

    async def _running(self, backend: Backend) -> dict[str, Any] | None:
        try:
            return await fetch_json(backend, b"/api/ps", timeout=self._timeout)
        except BadAnswer:
            return None  # Ollama before 0.1.38 does not know this route.

    def _tell(self, backend: Backend) -> None:
        state, before = backend.health.shown, self._shown.get(backend, "up")
        self._shown[backend] = state
        if state != before:
            level = log.info if state in ("up", "draining") else log.warning
            level("backend_state", backend=backend.name, before=before, state=state, reason=backend.health.reason)


def _learn(
    backend: Backend, version: Mapping[str, Any], tags: Mapping[str, Any], running: Mapping[str, Any] | None
) -> None:
    backend.version = version["version"] if isinstance(version.get("version"), str) else None
    backend.models = models_by_key(tags)
    if backend.changed_at is not None and backend.changed_at < backend.asked_at:
        backend.changed_at = None
    if running is not None:
        backend.running = tuple(entries_of(running))
        backend.residency.saw({base_key(key): _resident(entry) for key, entry in models_by_key(running).items()})


def _resident(entry: Mapping[str, Any]) -> Resident:
    vram, length = entry.get("size_vram"), entry.get("context_length")
    return Resident(vram if isinstance(vram, int) else 0, length if isinstance(length, int) else None)
