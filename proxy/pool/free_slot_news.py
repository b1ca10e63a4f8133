"""The news that a slot may be free: who hears it, and when."""

import asyncio
from collections.abc import Callable

from proxy.pool.lease import Lease


class FreeSlotNews:
    """Tells its listeners that a waiting request may find a slot, at most once in each turn of the event loop."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []
        self._telling = False

    def listen(self, callback: Callable[[], None]) -> None:
        """Call `callback` with each piece of news."""
        self._listeners.append(callback)

    def tell_soon(self) -> None:
        """Call the listeners in the next turn of the event loop."""
        if self._listeners and not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def freed(self, lease: Lease) -> None:
        """Note the end of a lease, which is news where it had a slot."""
        if lease.model is not None:
            self.tell_soon()

    def _tell(self) -> None:
        self._telling = False
        for callback in self._listeners:
            callback()
