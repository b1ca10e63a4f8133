"""proxy/kernel/worker_threads.py."""

import asyncio
import threading
import weakref

import pytest

from proxy.kernel.worker_threads import THREADS, off_loop


async def test_work_is_done_in_another_thread() -> None:
    assert await off_loop("a", divmod, 7, 2) == (3, 1)
    assert await off_loop("a", threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await off_loop("a", divmod, 7, 0)


async def test_the_loop_goes_on_meanwhile() -> None:
    go_on = threading.Event()
    waiting = asyncio.create_task(off_loop("a", go_on.wait, 30))
    await asyncio.sleep(0)  # here the loop would stand still
    go_on.set()
    assert await waiting


async def test_whoever_is_cancelled_leaves_the_line() -> None:
    go_on, done = threading.Event(), threading.Event()
    busy = [asyncio.create_task(off_loop(f"busy {number}", go_on.wait, 30)) for number in range(THREADS)]
    await asyncio.sleep(0)
    late = asyncio.create_task(off_loop("a", done.set))
    await asyncio.sleep(0)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    go_on.set()
    await asyncio.gather(*busy)
    await off_loop("a", int)
    assert not done.is_set()


class Held:
    """Work that notes who began it, and ends when it is told to."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.go_on: dict[str, threading.Event] = {}
        self._noted = asyncio.Event()

    def put(self, name: str) -> asyncio.Task[None]:
        """Let work of the caller that `name` begins with wait."""
        self.go_on[name] = threading.Event()
        return asyncio.create_task(off_loop(name[0], self._work, asyncio.get_running_loop(), name))

    def _work(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        loop.call_soon_threadsafe(self._note, name)
        assert self.go_on[name].wait(30)

    def _note(self, name: str) -> None:
        self.began.append(name)
        self._noted.set()

    async def until(self, count: int) -> list[str]:
        """Return who began, once these are so many."""
        while len(self.began) < count:
            self._noted.clear()
            await asyncio.wait_for(self._noted.wait(), 30)
        return self.began


async def test_one_caller_has_one_thread() -> None:
    held = Held()
    work = [held.put(name) for name in ("a1", "a2", "a3", "a4")]
    await held.until(1)
    work.append(held.put("b1"))  # behind everything of the other
    assert await held.until(2) == ["a1", "b1"]
    held.go_on["b1"].set()
    await work.pop()
    assert held.began == ["a1", "b1"]  # with a thread free
    for event in held.go_on.values():
        event.set()
    await asyncio.gather(*work)
    assert held.began == ["a1", "b1", "a2", "a3", "a4"]


async def test_callers_take_turns() -> None:
    held = Held()
    busy = [held.put("x"), held.put("y")]
    await held.until(2)
    names = ["a1", "a2", "a3", "b1", "b2", "c1"]
    work = [held.put(name) for name in names]
    await asyncio.sleep(0)  # they are in line
    for name in names:
        held.go_on[name].set()
    held.go_on["x"].set()  # the other thread stays busy
    await asyncio.gather(*work)
    assert held.began[2:] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    held.go_on["y"].set()
    await asyncio.gather(*busy)


async def test_what_was_cancelled_holds_nothing() -> None:
    held = Held()
    busy = [held.put("x"), held.put("y")]
    await held.until(2)

    class Body:
        def look(self) -> None: ...

    body = Body()
    gone = weakref.ref(body)
    late = asyncio.create_task(off_loop("a", body.look))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    del late, body
    await asyncio.sleep(0)
    assert gone() is None
    for name in held.go_on:
        held.go_on[name].set()
    await asyncio.gather(*busy)
