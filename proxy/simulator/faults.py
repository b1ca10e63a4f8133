"""Plans of faults: which fault strikes which requests, and how often. ``faulty_replies.py`` carries them out."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from proxy.simulator.request import Request

Kind = Literal[
    "reset", "close", "stall", "truncate", "end", "length", "extra", "duplicate_length", "junk", "huge_head", "status",
    "busy", "error", "repeat", "redirect", "split", "informational", "chunk_extensions",
    "trailers", "slow_accept", "script",
]  # fmt: skip


@dataclass(slots=True, eq=False, kw_only=True)
class Fault:
    """One armed fault. Which fields matter depends on `kind`.

    Args:
        kind: what happens.
        route: pattern of the route it strikes (``/api/chat``); None is every one.
        when: asked with each request that the route let through; None is always.
        times: how many requests it strikes; None is until `Ollama.clear`.
        after: body chunks that are delivered first. 0 strikes once the request has been read, before anything else is
            done for it.
        head: let the head out first, although `after` is 0.
        delay: seconds; for ``stall`` 0 is until `release`.
        delta: declared Content-Length minus the real one.
        data: bytes to send: ``junk``, ``extra``, ``chunk_extensions``; what a ``repeat`` says again and again, behind
            `after` pieces, until Ollama's guard ends the answer.
        parts: bytes to send, one write each: ``script``.
        finish: what comes after a ``script``.
        status, message, headers, body: of a refusal, ``redirect``, ``informational`` or ``trailers``.
        location: of a ``redirect``.
        size, count: of the header in a ``huge_head``; how many ``informational`` responses.
        at, every, seed: where ``split`` cuts: at these offsets in the response, and every so many bytes, or, with
            neither, at random.

    Attributes:
        hits: requests struck so far.
    """

    kind: Kind
    route: str | None = None
    when: Callable[[Request], bool] | None = None
    times: int | None = 1
    after: int = 0
    head: bool = False
    delay: float = 0.0
    delta: int = 0
    data: bytes = b""
    parts: tuple[bytes, ...] = ()
    finish: Literal["close", "reset", "keep", "hang"] = "close"
    status: int = 500
    message: str = "the simulated runner failed"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    location: str = "/api/tags"
    size: int = 1 << 17
    count: int = 1
    at: tuple[int, ...] = ()
    every: int = 0
    seed: int = 0
    hits: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown kind of fault {self.kind!r}; one of {', '.join(get_args(Kind))}")

    def release(self) -> None:
        """End the stall of every request that this fault holds, now and from now on."""
        self.released.set()

    def matches(self, request: Request) -> bool:
        """Return whether the fault matches `request`, hits left or not."""
        return self.route in (None, request.route) and (self.when is None or self.when(request))


class Faults:
    """The armed faults. Each request takes at most one: the first that matches and has hits left."""

    def __init__(self) -> None:
        self.armed: list[Fault] = []
        self._ever: list[Fault] = []

    def arm(self, fault: Fault) -> Fault:
        """Add a fault behind the others and return it."""
        self.armed.append(fault)
        self._ever.append(fault)
        return fault

    def clear(self) -> None:
        """Disarm all faults, and release the requests that they hold."""
        for fault in self._ever:
            fault.release()
        self.armed.clear()
        self._ever.clear()

    def take(self, request: Request) -> Fault | None:
        """Return the fault that strikes `request`, with the hit counted."""
        for fault in self.armed:
            if fault.kind != "slow_accept" and fault.matches(request):
                return self._hit(fault)
        return None

    def take_slow_accept(self) -> float:
        """Return for how long a new connection is not read."""
        for fault in self.armed:
            if fault.kind == "slow_accept":
                return self._hit(fault).delay
        return 0.0

    def _hit(self, fault: Fault) -> Fault:
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self.armed.remove(fault)
        return fault
