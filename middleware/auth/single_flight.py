"""Single flight: callers that need the same answer from outside wait for one question."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs at most one coroutine for each key at a time.

    The work runs in a task of its own, so a caller that leaves does not affect the others. If all callers leave, the
    work still runs to its end, so it must be bounded in time.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def running(self, key: K) -> bool:
        """Return whether work for `key` is running."""
        return key in self._tasks

    def start(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> Awaitable[V]:
        """Start `work` unless it runs, and return its awaitable; awaiting it is optional."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(work())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return asyncio.shield(task)

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieve the error even if all callers have left
