"""Asks every backend at an interval how it is, what it has and what is in its memory."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final

import structlog

from proxy.kernel.errors import BadAnswer, UpstreamError
from proxy.kernel.model_names import parse as parse_model
from proxy.pool.ask import ask
from proxy.pool.backend import Backend, compare
from proxy.pool.health import State
from proxy.pool.pool import Pool
from proxy.pool.residency import Resident
from proxy.upstream.transport import Transport

log = structlog.get_logger("ollama_proxy.pool")

JITTER: Final = 0.2
"""The part of the interval by which a question may come sooner or later, so that questions do not fall together."""
SOONER: Final = 5
"""How many times as often a backend is asked that is suspect: one that died is known to be down within the interval."""
SOONEST: Final = 1.0
"""Seconds between two questions, whatever happens: a sick host is not made sicker by asking how it is."""
HABIT: Final = 2
"""Intervals within which a backend that closes a connection at rest again does so out of habit, not because it dies."""


class Watch:
    """One task a backend; a question is asked only when the one before it is answered, so none pile up.

    A backend that closes a connection at rest is asked at once: so one that is killed is known to be down well within
    the interval, however long ago it was asked. Some close every connection after a while, or after each answer; of a
    backend that does so again and again it says nothing, and it is asked at the interval.

    Args:
        pool: whose backends are watched.
        every: seconds between two questions.
        timeout: seconds that an answer may take.
    """

    def __init__(self, pool: Pool, *, every: float, timeout: float) -> None:
        self._pool = pool
        self._every = every
        self._timeout = timeout
        self._tasks: dict[Backend, asyncio.Task[None]] = {}
        self._wake: dict[Backend, asyncio.Event] = {}
        self._hung_up: dict[Backend, float] = {}  # when it last closed a connection at rest
        self._shown: dict[Backend, State] = {}
        pool.on_stale(self.refresh)

    @property
    def oldest(self) -> float:
        """Seconds after which what a backend said no longer counts as what it has now."""
        return 3 * self._every + self._timeout

    def start(self) -> None:
        """Begin to watch the backends that the pool has now; new ones are asked at once, those that went no more."""
        for backend in self._tasks.keys() - set(self._pool.backends):
            self._tasks.pop(backend).cancel()
            self._wake.pop(backend, None)
            self._hung_up.pop(backend, None)
            self._shown.pop(backend, None)
        for backend in self._pool.backends:
            if isinstance(backend.transport, Transport):
                backend.transport.on_hung_up = partial(self.hung_up, backend)
            if backend not in self._tasks:
                self._tasks[backend] = asyncio.create_task(self._watch(backend))

    def pace(self, *, every: float, timeout: float) -> None:
        """Ask at another interval from the next question on."""
        self._every, self._timeout = every, timeout

    async def stop(self) -> None:
        """End watching."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def refresh(self, backend: Backend) -> None:
        """Ask `backend` soon: something it did says that what is known of it is not so any more."""
        if backend in self._wake:
            self._wake[backend].set()

    def hung_up(self, backend: Backend) -> None:
        """Ask `backend`, which closed a connection at rest, soon, unless it did so not long ago.

        The questions use connections too: one asked for each that is closed would be followed by the next for ever.
        """
        now = monotonic()
        before, self._hung_up[backend] = self._hung_up.get(backend, -inf), now
        if now - before > HABIT * self._every:
            self.refresh(backend)

    async def _watch(self, backend: Backend) -> None:
        wake = self._wake[backend] = asyncio.Event()
        while True:
            wake.clear()
            asked_at = monotonic()
            try:
                await self.look(backend)
                await self._pool.close_retired()
            except Exception:
                log.exception("watch_failed", backend=backend.name)  # a bug of ours, and no reason to look away
            pause = self._every / (SOONER if backend.health.state == "suspect" else 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(1 - JITTER, 1 + JITTER)):
                    await wake.wait()
            await asyncio.sleep(asked_at + min(SOONEST, self._every / SOONER) - monotonic())

    async def look(self, backend: Backend) -> None:
        """Ask `backend` once and note what it says, or that it says nothing."""
        asked_at = monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                version = await ask(backend, b"/api/version", timeout=self._timeout)
                tags = await ask(backend, b"/api/tags", timeout=self._timeout)
                running = await self._running(backend)
        except TimeoutError:
            self._did_not_answer(backend, f"no answer within {self._timeout:g} s")
        except UpstreamError as error:
            self._did_not_answer(backend, error.detail)
        else:
            if asked_at >= backend.asked_at:  # else somebody else asked later and was answered sooner
                backend.asked_at = asked_at
                _learn(backend, version, tags, running)
            backend.seen_at = monotonic()
            backend.health.probe_succeeded(backend.seen_at)
        compare(self._pool.backends, monotonic())
        self._tell(backend)
        self._pool.changed()

    def _did_not_answer(self, backend: Backend, reason: str) -> None:
        backend.health.probe_failed(monotonic(), reason)
        if backend.health.state == "down":
            backend.memory.clear()

    async def _running(self, backend: Backend) -> dict[str, Any] | None:
        try:
            return await ask(backend, b"/api/ps", timeout=self._timeout)
        except BadAnswer:
            return None  # Ollama before 0.1.38 does not know it.

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
    backend.models = _by_key(tags)
    if backend.changed_at is not None and backend.changed_at < backend.asked_at:
        backend.changed_at = None
    if running is not None:
        backend.running = tuple(_entries(running))
        backend.memory.saw({key: _resident(entry) for key, entry in _by_key(running).items()})


def _entries(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = answer.get("models")
    return [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []


def _by_key(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the models of ``/api/tags`` or ``/api/ps`` by canonical key."""
    found: dict[str, dict[str, Any]] = {}
    for entry in _entries(answer):
        text = entry.get("model") or entry.get("name")
        name = parse_model(text) if isinstance(text, str) else None
        if name is not None:
            found[name.key] = entry
    return found


def _resident(entry: Mapping[str, Any]) -> Resident:
    vram, length = entry.get("size_vram"), entry.get("context_length")
    return Resident(vram if isinstance(vram, int) else 0, length if isinstance(length, int) else None)
