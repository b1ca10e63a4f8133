"""Verified tokens, remembered for a while so that the next request with the same token costs next to nothing."""

from hashlib import blake2b
from math import inf
from typing import Generic, TypeVar

from proxy.kernel.clock import Clock
from proxy.kernel.lru import Recent

V = TypeVar("V")


def token_digest(token: str) -> bytes:
    """Return what a token is remembered by: its memory dump must not hold credentials."""
    return blake2b(token.encode(), digest_size=16).digest()


class TokenCache(Generic[V]):
    """Digest → value for some seconds; the least recently used goes first when it is full.

    The seconds are those of the monotonic clock, so that setting the calendar's back prolongs nothing. Where the token
    has an end by the calendar, that counts too.
    """

    def __init__(self, size: int, clock: Clock) -> None:
        self._clock = clock
        self._entries: Recent[bytes, tuple[V, float, float]] = Recent(size)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        """Whether it was remembered, also where that holds no longer."""
        return digest in self._entries

    def get(self, digest: bytes) -> V | None:
        """Return what is remembered and still holds."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        value, until, expires = entry
        if self._clock.monotonic() >= until or self._clock.time() >= expires:
            return None
        self._entries.move_to_end(digest)
        return value

    def put(self, digest: bytes, value: V, seconds: float, *, expires: float = inf) -> None:
        """Remember `value` for some `seconds`, at most until `expires` (seconds since 1970)."""
        self._entries.note(digest, (value, self._clock.monotonic() + seconds, expires))

    def forget(self, digest: bytes) -> None:
        """Remember it no longer."""
        self._entries.pop(digest, None)
