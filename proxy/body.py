"""Request bodies held in memory: bounded one by one, in sum, and in the time they may take to arrive."""

import asyncio
from collections.abc import Callable

from proxy.asgi import Message, Receive
from proxy.errors import ClientGone, Refused


class BodyBudget:
    """How many bytes of request bodies this process may hold, and how slowly they may come in.

    Args:
        each: the largest single body, bytes; beyond it 413.
        total: all bodies together, bytes; beyond it 503 with Retry-After, before another byte is read.
        patience: seconds in which a body may come as slowly as it likes.
        rate: bytes a second that it must have come in with, on average, ever after; 408 where it has not. A body takes
            up what it announced until it is in, so who sends next to nothing would keep out everybody else.
    """

    def __init__(
        self, *, each: int = 64 * 2**20, total: int = 512 * 2**20, patience: float = 30.0, rate: int = 16 * 2**10
    ) -> None:
        self.each = each
        self.total = total
        self.patience = patience
        self.rate = rate
        self.held = 0

    def hold(self, more: int, *, already: int = 0) -> None:
        """Account for `more` bytes of a body that holds `already`; raises Refused, and then holds nothing more."""
        if already + more > self.each:
            raise Refused(413, f"the request body is larger than the {self.each} bytes this proxy accepts")
        if self.held + more > self.total:
            raise Refused(
                503,
                "the proxy holds as many request bodies as it has memory for; try again shortly",
                code="body_memory_exhausted",
                headers={"retry-after": "1"},
            )
        self.held += more

    def release(self, size: int) -> None:
        """Give back what `hold` accounted for."""
        self.held -= size

    async def read(self, receive: Receive, hold: Callable[[int], None]) -> bytes:
        """Return the body that `receive` gives, whole.

        Args:
            receive: gives its parts.
            hold: is told how much has come with each of them; raises where that is too much.

        Raises:
            Refused: 408 where it comes in too slowly, and what `hold` raises.
            ClientGone: instead of its end.
        """
        began = asyncio.get_running_loop().time()
        body, more = _part(await receive())
        hold(len(body))
        return await self._rest(body, began, receive, hold) if more else body  # whole, as most are, it needs no timer

    async def _rest(self, begin: bytes, began: float, receive: Receive, hold: Callable[[int], None]) -> bytes:
        parts, size, more = [begin], len(begin), True
        try:
            async with asyncio.timeout(None) as deadline:
                while more:
                    deadline.reschedule(began + self.patience + size / self.rate)
                    part, more = _part(await receive())
                    parts.append(part)
                    size += len(part)
                    hold(size)
        except TimeoutError:
            raise Refused(408, "the request body comes in too slowly", code="body_too_slow") from None
        return b"".join(parts)

    def __repr__(self) -> str:
        return f"<BodyBudget {self.held} of {self.total} bytes held, {self.each} each>"


def _part(message: Message) -> tuple[bytes, bool]:
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)
