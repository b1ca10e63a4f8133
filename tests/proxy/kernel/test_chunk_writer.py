"""proxy/kernel/chunk_writer.py."""

import asyncio

from proxy.kernel.chunk_writer import ENOUGH, ChunkWriter
from tests.support.backend import eventually


class Slow(ChunkWriter):
    """Writes into a list, each time only when it may."""

    def __init__(self, every: float = 60.0) -> None:
        super().__init__(every)
        self.may = asyncio.Semaphore(0)
        self.written: list[bytes] = []

    async def _write(self, data: bytes) -> None:
        await self.may.acquire()
        self.written.append(data)


async def test_what_comes_while_a_call_runs_is_gathered_for_the_next() -> None:
    """A journal that takes as long for a call as the next chunk needs to come gets no call for each chunk."""
    writer = Slow()
    writer.put(b"a")
    writer.write_soon()
    for chunk in (b"b", b"c"):
        await asyncio.sleep(0)
        writer.put(chunk)
        writer.may.release()
        await eventually(lambda: writer.written == [b"a"])
    writer.put(b"d")
    writer.may.release()
    await writer.write_all()
    assert writer.written == [b"a", b"bcd"]


async def test_it_is_written_after_a_while() -> None:
    writer = Slow(every=0.001)
    for chunk in (b"a", b"b"):
        writer.put(chunk)
        writer.may.release()
        await eventually(lambda chunk=chunk: b"".join(writer.written).endswith(chunk))  # type: ignore[misc]
    assert writer.held == 0


async def test_enough_is_written_at_once() -> None:
    writer = Slow()
    writer.put(b"x" * ENOUGH)
    await asyncio.sleep(0)
    writer.put(b"y" * ENOUGH)
    writer.put(b"z")
    writer.may.release()
    writer.may.release()
    await eventually(lambda: len(writer.written) == 2)
    assert [data[:1] for data in writer.written] == [b"x", b"y"]
    assert (writer.written[1][-1:], writer.held) == (b"z", 0)


async def test_who_no_longer_waits_ends_no_call() -> None:
    writer = Slow()
    writer.put(b"a")
    waiting = asyncio.create_task(writer.write_all())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    writer.may.release()
    await writer.write_all()
    assert writer.written == [b"a"]


async def test_what_is_held_waits_and_what_is_cleared_is_forgotten() -> None:
    writer = Slow(every=0.0)
    writer.hold(b"a")
    for _ in range(3):
        await asyncio.sleep(0)
    assert (writer.written, writer.held) == ([], 1)
    writer.put(b"b")
    writer.clear()
    writer.may.release()
    await writer.write_all()
    assert (writer.written, writer.held) == ([], 0)
