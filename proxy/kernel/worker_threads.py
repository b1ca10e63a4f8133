"""Work that takes milliseconds, done beside the event loop.

Python runs one thread at a time, so this saves no time; but while a body is read in a thread, chunks of other answers
go out in between. What runs here keeps each call into C short, as nothing gets in between of that.

Each caller has a line of his own, of which one piece of work runs at a time, and the lines take turns: whoever comes
waits for one piece of each other caller's work, however much of it there is.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 2
"""Threads: one for long work, and one that decodes zstd or reads a short body meanwhile."""

_Job = tuple["Future[Any]", Callable[[], Any]]


class _Lines:
    """Work that waits, by caller: the first line has the next turn."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="off_loop")
        self._waiting: dict[str, deque[_Job]] = {}
        self._busy: set[str] = set()
        """Callers whose work runs."""

    def put(self, caller: str, work: Callable[[], T]) -> "Future[T]":
        """Queue `work` behind the work of `caller`."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.setdefault(caller, deque()).append((future, work))
        future.add_done_callback(partial(self._leave, caller, work))
        self._threads.submit(self._work)
        return future

    def _work(self) -> None:
        """Run the next work; where none may run now, the end of running work calls this again."""
        with self._lock:
            caller = next((caller for caller in self._waiting if caller not in self._busy), None)
            if caller is None:
                return
            line = self._waiting.pop(caller)
            future, work = line.popleft()
            if line:
                self._waiting[caller] = line  # behind all others
            self._busy.add(caller)
        _run(future, work)
        del future, work
        with self._lock:
            self._busy.discard(caller)
            left = min(THREADS, len(self._waiting))
        for _ in range(left):
            self._threads.submit(self._work)

    def _leave(self, caller: str, work: Callable[[], Any], future: "Future[Any]") -> None:
        """Take what was cancelled out of its line, and what it holds with it."""
        if not future.cancelled():
            return
        with self._lock:
            line = self._waiting.get(caller)
            if line is not None and (future, work) in line:
                line.remove((future, work))
                if not line:
                    del self._waiting[caller]


def _run(future: "Future[Any]", work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
        del future  # it leads back to this frame
    else:
        future.set_result(result)


_lines: Final = _Lines()


async def off_loop(caller: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` does for `caller`, run in a thread of the few that there are for it.

    Whoever is cancelled leaves the line; work that has begun goes on to its end, and nobody hears of it.
    """
    return await asyncio.wrap_future(_lines.put(caller, partial(work, *args, **kwargs)))
