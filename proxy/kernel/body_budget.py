"""Request bodies held in memory: bounded one by one, for each caller, in sum, and in the time they take to arrive."""

import asyncio
from collections import Counter
from typing import TypedDict

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Message, Receive
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import ClientGone, Refused
from proxy.kernel.shared_numbers import SharedNumbers


class BodyBounds(TypedDict):
    """The bounds of a `BodyBudget`; only the policy file has defaults for them."""

    each: int
    total: int
    share: float
    patience: float
    rate: int


class BodyBudget:
    """Bounds the bytes of request bodies that this process holds, and how slowly they may come in.

    What counts is what has arrived; what a body announces takes up nothing. A caller may hold `share` of what the
    others leave free: alone `share` of `total`, beside others less, so that something is left for whoever comes next.
    (This is the *dynamic threshold* by which switches share a buffer among ports; Choudhury and Hahne, 1998.) Where a
    caller finds no room all the same, a body that still arrives gives way, of the caller who holds most.

    Args:
        each: the largest single body, bytes, with what it is decompressed to; beyond it 413.
        total: all bodies together, bytes; where the others hold so much that there is no room, 503 with Retry-After.
        share: the part of `total` that one caller may hold, at least one body of `each`; beyond it 429, likewise.
        patience: seconds that a body may be late.
        rate: bytes a second that it has to come in with; 408 where it is late for longer than `patience`. It cannot be
            early: what came fast is not held by who then sends next to nothing.

    Attributes:
        held: bytes of all bodies.
        refused: how many bodies were refused for want of memory, by the error's code.
    """

    def __init__(self, *, each: int, total: int, share: float, patience: float, rate: int) -> None:
        self.bound(each=each, total=total, share=share, patience=patience, rate=rate)
        self.held = 0
        self.refused: Counter[str] = Counter()
        self._held: dict[str, int] = {}
        self._arriving: set[Holding] = set()

    def bound(self, *, each: int, total: int, share: float, patience: float, rate: int) -> None:
        """Set the bounds, for what comes from now on."""
        self.each = each
        self.total = total
        self.share = share
        self.patience = patience
        self.rate = rate

    def empty_copy(self) -> "BodyBudget":
        """Return another budget with the same bounds, for a body that shall take nobody's room."""
        return BodyBudget(each=self.each, total=self.total, share=self.share, patience=self.patience, rate=self.rate)

    @property
    def callers(self) -> int:
        """Return the number of callers that hold anything."""
        return len(self._held)

    @property
    def largest(self) -> int:
        """Return the bytes of the caller that holds most."""
        return max(self._held.values(), default=0)

    def of(self, caller: str) -> int:
        """Return the bytes that `caller` holds."""
        return self._held.get(caller, 0)

    def make_room(self, more: int, caller: str, *, announced: bool = False) -> None:
        """Raise Refused (429, 503) where `caller` may not hold `more` bytes; nothing is counted yet.

        Nobody gives way for what is `announced` only.
        """
        held = self.of(caller)
        wanted = held + more
        if wanted > self._most(self.total):
            raise self.refusal(429, codes.BODY_SHARE_EXCEEDED, "you have as many request bodies here as one caller may")
        while wanted > self._most(self.total - self.elsewhere() - self.held + held):
            body = self._dispensable(wanted)
            if body is None:
                raise self.refusal(503, codes.BODY_MEMORY_EXHAUSTED, "the proxy holds as many request bodies as it can")
            if announced:
                return
            body.give_way()

    def elsewhere(self) -> int:
        """Return the bytes of `total` that other processes hold."""
        return 0

    def book(self, change: int, caller: str) -> None:
        """Count `change` bytes, fewer than none where they are given back, whether or not there is room for them."""
        self.held += change
        held = self.of(caller) + change
        if held:
            self._held[caller] = held
        else:
            self._held.pop(caller, None)

    def refusal(self, status: int, code: Code, what: str) -> Refused:
        """Return the error for want of memory, and count it."""
        self.refused[code] += 1
        return Refused(status, f"{what}; try again shortly", code=code, headers={"retry-after": "1"})

    @property
    def behind(self) -> str:
        """The message for a body that comes in too slowly; its timer has the name of the section of the policy file."""
        return (
            f"the request body is {self.patience:g} s behind {self.rate:.0f} bytes a second; send faster (timer body)"
        )

    def arrives(self, body: "Holding", *, still: bool) -> None:
        """Note whether a part of `body` is still to come."""
        (self._arriving.add if still else self._arriving.discard)(body)

    def _most(self, free: int) -> float:
        """Return the bytes that one caller may hold, a share of the bytes that the others leave free."""
        return max(self.share * free, self.each * free / self.total)

    def _dispensable(self, wanted: int) -> "Holding | None":
        """Return the largest arriving body of the caller that holds most, if that is more than `wanted` bytes."""
        largest = max(self._arriving, key=lambda body: (self.of(body.caller), body.size), default=None)
        return largest if largest is not None and largest.size and self.of(largest.caller) > wanted else None

    def __repr__(self) -> str:
        return f"<BodyBudget {self.held} of {self.total} bytes held by {self.callers} callers, {self.each} each>"


class SharedBodyBudget(BodyBudget):
    """The budget of one of several processes, which share `total`.

    A caller has its share in each of them, of what all others leave free in all of them.

    Args:
        numbers: where each process writes how many bytes it holds.
        column: the column of these numbers.
        bounds: as for `BodyBudget`.
    """

    def __init__(self, numbers: SharedNumbers, column: int, bounds: BodyBounds) -> None:
        super().__init__(**bounds)
        self._numbers = numbers
        self._column = column
        numbers.write(column, 0)

    def elsewhere(self) -> int:
        """See `BodyBudget.elsewhere`."""
        return self._numbers.elsewhere(self._column)

    def book(self, change: int, caller: str) -> None:
        """See `BodyBudget.book`."""
        super().book(change, caller)
        self._numbers.write(self._column, self.held)


class Holding:
    """The bytes that the body of one request takes up.

    Attributes:
        caller: for whom it counts.
        size: bytes.
    """

    __slots__ = ("_budget", "_deadline", "_gave_way", "_over", "caller", "size")

    def __init__(self, budget: BodyBudget) -> None:
        self.caller = ""
        self.size = 0
        self._budget = budget
        self._deadline: asyncio.Timeout | None = None
        self._gave_way = False
        self._over = False

    def charge(self, caller: str) -> None:
        """Count the body for `caller` from now on; the caller may become known late."""
        if caller != self.caller:
            if self.size:
                self._budget.book(-self.size, self.caller)
                self._budget.book(self.size, caller)
            self.caller = caller

    @property
    def room(self) -> int:
        """Return the bytes that the largest body may still grow by."""
        return max(0, self._budget.each - self.size)

    def announce(self, size: int) -> None:
        """Raise Refused (413, 429, 503) where a body of `size` bytes could not be held now; nothing is held for it."""
        self._check(size)
        self._budget.make_room(size, self.caller, announced=True)

    def take(self, more: int) -> None:
        """Hold `more` bytes; raises Refused (413, 429, 503) where there is no room for them."""
        self._check(self.size + more)
        self._budget.make_room(more, self.caller)
        self._budget.book(more, self.caller)
        self.size += more

    def _check(self, size: int) -> None:
        if self._gave_way:
            raise self._budget.refusal(503, codes.BODY_MEMORY_EXHAUSTED, "this request body gave way to smaller ones")
        if self._over:
            raise Refused(413, "the request is over")
        if size > self._budget.each:
            raise Refused(413, f"the request body is larger than the {self._budget.each} bytes this proxy accepts")

    def release(self) -> None:
        """Give everything back; from now on nothing can be held."""
        self._over = True
        self._budget.book(-self.size, self.caller)
        self.size = 0

    def give_way(self) -> None:
        """Give everything back and end `read`."""
        self._gave_way = True
        self._budget.arrives(self, still=False)
        self.release()
        if self._deadline is not None:
            self._deadline.reschedule(0.0)

    async def read(self, receive: Receive) -> bytes:
        """Return the body that `receive` gives, whole; each part is held before the next one is asked for.

        What was held is given back at once where it fails: others of the same caller may just wait for that.

        Raises:
            Refused: 408 where it comes in too slowly, and what `take` raises.
            ClientGone: instead of its end.
        """
        began = asyncio.get_running_loop().time()
        try:
            body, more = _part(await receive())
            self.take(len(body))
            return await self._rest(body, began, receive) if more else body  # whole, as most are, it needs no timer
        except BaseException:
            self.release()
            raise

    async def _rest(self, begin: bytes, began: float, receive: Receive) -> bytes:
        now, budget = asyncio.get_running_loop().time, self._budget
        body, more = bytearray(begin), True  # a list would take many times the bytes of small parts
        due = min(began + len(begin) / budget.rate, now()) + budget.patience
        budget.arrives(self, still=True)
        try:
            async with asyncio.timeout_at(due) as self._deadline:
                while more:
                    part, more = _part(await receive())
                    self.take(len(part))
                    body += part
                    due = min(due + len(part) / budget.rate, now() + budget.patience)
                    self._deadline.reschedule(due)
        except TimeoutError:
            if self._gave_way:
                self._check(0)
            raise Refused(408, budget.behind, code=codes.BODY_TOO_SLOW) from None
        finally:
            self._deadline = None
            budget.arrives(self, still=False)
        return bytes(body)

    def __repr__(self) -> str:
        return f"<Holding of {self.size} bytes for {self.caller or 'nobody'}>"


def _part(message: Message) -> tuple[bytes, bool]:
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)
