"""Which requests with an idempotency key are answered live just now, so that the same one is not begun beside them."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused

AGAIN = 2
"""Seconds after which a client may send the request again."""


class Answering:
    """The keys of the requests that one process answers, each with the owner that it belongs to."""

    def __init__(self) -> None:
        self._held: set[tuple[str, str]] = set()

    @contextmanager
    def hold(self, owner: str, key: str | None) -> Iterator[None]:
        """Hold a key, None for none, as long as its request is answered or kept.

        Raises Refused (409, as the draft on Idempotency-Key says) where another request holds it.
        """
        if key is None:
            yield
            return
        if (owner, key) in self._held:
            raise Refused(
                409,
                "a request of yours with this Idempotency-Key is being answered; send it again when that has ended",
                code=codes.IDEMPOTENCY_KEY_IN_USE,
                headers={"retry-after": str(AGAIN)},
            )
        self._held.add((owner, key))
        try:
            yield
        finally:
            self._held.discard((owner, key))
