"""The writer of one record: it takes the answer of a run and appends it to the journal in batches.

A chunk costs an append to a list. What is in the list goes to the journal every `EVERY` seconds, or as soon as it holds
`ENOUGH` bytes. A journal that does not answer is tried again; the run waits once `MOST_HELD` bytes are held.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from proxy.kernel.journal import Claim, Fenced, Journal, JournalFull
from proxy.kernel.store import StoreUnavailable

EVERY: Final = 0.1
"""Seconds between two writes."""
ENOUGH: Final = 64 * 1024
"""Bytes that are written at once."""
MOST_HELD: Final = 1024 * 1024
"""Bytes from which on the run waits for the journal."""
AGAIN: Final = 0.5
"""Seconds after which a journal that failed is tried again."""


class AnswerWriter:
    """Writes the record of one claim. `close` must be called, as its timer and its task lead to it.

    Args:
        journal: where the record is.
        claim: the right to write it.
        lost: called once when nothing more can be written: the claim is fenced, or the record is full.

    Attributes:
        fenced: whether another owner has the entry, or it was cancelled or deleted.
        full: why the record takes no more; None where it does.
    """

    def __init__(self, journal: Journal, claim: Claim, lost: Callable[[], None]) -> None:
        self._journal = journal
        self._claim = claim
        self._lost = lost
        self._begin: tuple[int, Sequence[tuple[str, str]]] | None = None
        self._parts: list[bytes] = []
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._eased = asyncio.Event()
        self.fenced = False
        self.full: str | None = None

    def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Note how the answer begins; it is written with the first bytes."""
        self._begin = status, headers
        self._write_soon()

    def take(self, part: bytes) -> bool:
        """Take a part of the answer; return whether more may follow at once."""
        if self.fenced or self.full is not None:
            return True  # the run is being ended
        self._parts.append(part)
        self._held += len(part)
        if self._timer is None and self._task is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._write_soon)
        elif self._held >= ENOUGH:
            self._write_soon()
        return self._held < MOST_HELD

    async def room(self) -> None:
        """Return when the journal has taken what was held."""
        while self._held >= MOST_HELD and not self.fenced:
            self._eased.clear()
            await self._eased.wait()

    async def flush(self) -> None:
        """Write all that is held. Returns without having done so where the claim is fenced or the record is full."""
        self._write_soon()
        while self._task is not None:
            await asyncio.wait([self._task])
            if self._parts or self._begin is not None:
                self._write_soon()

    def fence(self) -> None:
        """Note that the claim is fenced, as a beat has found out."""
        if not self.fenced:
            self.fenced = True
            self._drop()
            self._lost()

    def close(self) -> None:
        """Write nothing more."""
        self._drop()
        if self._task is not None:
            self._task.cancel()

    def _write_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None and (self._parts or self._begin is not None):
            self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._parts or self._begin is not None:
                try:
                    await self._write_once()
                except StoreUnavailable:
                    await asyncio.sleep(AGAIN)
        except Fenced:
            self.fence()
        except JournalFull as full:
            self.full = str(full)
            self._drop()
            self._lost()
        finally:
            self._task = None
            self._eased.set()

    async def _write_once(self) -> None:
        if self._begin is not None:
            status, headers = self._begin
            await self._journal.begin(self._claim, status, headers)
            self._begin = None
        if self._parts:
            data = b"".join(self._parts)
            self._parts = [data]
            await self._journal.append(self._claim, data)
            del self._parts[0]
            self._held -= len(data)
            self._eased.set()

    def _drop(self) -> None:
        self._parts.clear()
        self._begin = None
        self._held = 0
        self._eased.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def until_written(call: Callable[[], object], seconds: float) -> None:
    """Run the coroutine function `call` until the journal has taken it, for `seconds` at most; raises Fenced."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await call()  # type: ignore[misc]  # a coroutine function
                    return
                except StoreUnavailable:
                    await asyncio.sleep(AGAIN)
