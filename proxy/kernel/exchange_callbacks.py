"""The callbacks of one exchange: those that run when its request has ended, and those that look at its body last."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

E = TypeVar("E")
"""The exchange, which every callback gets."""


class Callbacks(Generic[E]):
    """What was registered by `Exchange.on_finish` and `Exchange.before_body_release`.

    It has no reference to the exchange, as that would be a cycle. A second attempt shares it.
    """

    __slots__ = ("_finishers", "_looks")

    def __init__(self) -> None:
        self._finishers: list[Callable[[E], Awaitable[None] | None]] | None = []
        self._looks: list[Callable[[E], None]] = []

    def add(self, callback: Callable[[E], Awaitable[None] | None]) -> None:
        """Register what runs at the end; raises RuntimeError after the end."""
        if self._finishers is None:
            raise RuntimeError("the exchange is finished already")
        self._finishers.append(callback)

    def add_look(self, look: Callable[[E], None]) -> None:
        """Register what runs before the body is released."""
        self._looks.append(look)

    def look(self, exchange: E) -> None:
        """Run, once, what was registered to look at the body of `exchange`, which is about to be released."""
        looks, self._looks = self._looks, []
        for look in looks:
            look(exchange)

    def end(self, exchange: E) -> list[Callable[[E], Awaitable[None] | None]]:
        """Return the callbacks for the end in the order they run, once; those that look at the body run before."""
        finishers, self._finishers = self._finishers, None
        if finishers is None:
            raise RuntimeError("the exchange is finished already")
        self.look(exchange)
        finishers.reverse()
        return finishers
