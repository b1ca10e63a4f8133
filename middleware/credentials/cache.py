"""Verified tokens, remembered for a while so that the next request with the same token costs next to nothing."""

from collections import OrderedDict
from hashlib import blake2b
from typing import Generic, TypeVar

V = TypeVar("V")


def token_digest(token: str) -> bytes:
    """Return what a token is remembered by: its memory dump must not hold credentials."""
    return blake2b(token.encode(), digest_size=16).digest()


class TokenCache(Generic[V]):
    """Digest → value until a moment of its own; the least recently used goes first when it is full."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes, now: float) -> V | None:
        """Return what is remembered and still holds at `now`."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        value, until = entry
        if now >= until:
            del self._entries[digest]
            return None
        self._entries.move_to_end(digest)
        return value

    def put(self, digest: bytes, value: V, until: float) -> None:
        """Remember `value` until `until`, on the clock that `get` is asked by."""
        self._entries[digest] = value, until
        self._entries.move_to_end(digest)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
