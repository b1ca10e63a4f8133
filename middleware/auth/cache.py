"""A cache of verified tokens, so that the next request with the same token costs almost nothing."""

from hashlib import blake2b
from math import inf
from typing import Generic, TypeVar

from proxy.kernel.clock import Clock
from proxy.kernel.lru import Recent

V = TypeVar("V")


def token_digest(token: str) -> bytes:
    """Return the cache key of a token: a digest, so that a memory dump holds no credentials."""
    return blake2b(token.encode(), digest_size=16).digest()


class TokenCache(Generic[V]):
    """Digest → value, for some seconds; a full cache drops the least recently used entry.

    The seconds are measured by the monotonic clock, so setting the calendar back prolongs nothing. If the token expires
    by the calendar, that ends the entry too.
    """

    def __init__(self, size: int, clock: Clock) -> None:
        self._clock = clock
        self._entries: Recent[bytes, tuple[V, float, float]] = Recent(size)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        """Return whether the cache has an entry, even one that has expired."""
        return digest in self._entries

    def get(self, digest: bytes) -> V | None:
        """Return the value, or None if it is missing or has expired."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        value, until, expires = entry
        if self._clock.monotonic() >= until or self._clock.time() >= expires:
            return None
        self._entries.move_to_end(digest)
        return value

    def put(self, digest: bytes, value: V, seconds: float, *, expires: float = inf) -> None:
        """Store `value` for `seconds`, at most until `expires` (seconds since 1970)."""
        self._entries.note(digest, (value, self._clock.monotonic() + seconds, expires))

    def forget(self, digest: bytes) -> None:
        """Remove the entry."""
        self._entries.pop(digest, None)
