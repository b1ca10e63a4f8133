"""Chunks that are gathered and written together: by time and by size, never a call for each.

A chunk costs an append to a list.
"""

import asyncio
from typing import Final

ENOUGH: Final = 64 * 1024
"""Bytes that are written at once."""


class ChunkWriter:
    """Writes what is put in, in order, by the `_write` of a subclass.

    Its timer and its task lead to it until nothing is held any more.

    Args:
        every: seconds for which what comes is gathered before it is written.

    Attributes:
        every: the same; it may be changed.
        held: the bytes that wait to be written.
    """

    __slots__ = ("_parts", "_timer", "_writing", "every", "held")

    def __init__(self, every: float) -> None:
        self.every = every
        self.held = 0
        self._parts: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    async def _write(self, data: bytes) -> None:
        """Write what was gathered, as a subclass can; where that fails, note it and `clear`, but raise nothing."""
        raise NotImplementedError

    def put(self, chunk: bytes) -> None:
        """Take a chunk, without awaiting anything; it is written soon."""
        self._parts.append(chunk)
        self.held += len(chunk)
        if self.held >= ENOUGH:
            self.write_soon()
        elif self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(self.every, self.write_soon)

    def hold(self, chunk: bytes) -> None:
        """Take a chunk; it is written with what is put in later, or by `write_all`."""
        self._parts.append(chunk)
        self.held += len(chunk)

    def write_soon(self) -> None:
        """Write what is held in a task, as soon as that which is at work has ended."""
        self._stop_timer()
        if self._writing is None and self._parts:
            self._writing = asyncio.create_task(self._write_held())

    async def write_all(self) -> None:
        """Return when nothing is held any more. To cancel this ends no call that writes."""
        while self._parts or self._writing is not None:
            self.write_soon()
            if (writing := self._writing) is not None:
                await asyncio.wait([writing])
                writing.result()

    def clear(self) -> None:
        """Forget what is held."""
        self._parts.clear()
        self.held = 0
        self._stop_timer()

    async def _write_held(self) -> None:
        """Write what is held, and what comes meanwhile only where it is enough: the rest is gathered."""
        try:
            while self._parts:
                data = b"".join(self._parts)
                self._parts.clear()
                self.held = 0
                await self._write(data)
                if self.held < ENOUGH:
                    break
        finally:
            self._writing = None
            if self._parts and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self.every, self.write_soon)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
