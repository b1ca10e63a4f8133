"""What was refused before any plugin saw it: counted, and a few of them logged."""

import time
from collections import Counter
from typing import Final

import structlog

from proxy.errors import Refused

LOGGED_PER_SECOND: Final = 10

_log = structlog.get_logger("ollama_proxy.server")


class Seldom:
    """Lets `LOGGED_PER_SECOND` events a second through."""

    def __init__(self) -> None:
        self._second = 0
        self._logged = 0
        self._unlogged = 0

    def left_out(self) -> int | None:
        """Return how many events were left out before this one; None: leave this one out, too."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= LOGGED_PER_SECOND:
            self._unlogged += 1
            return None
        self._logged += 1
        left_out, self._unlogged = self._unlogged, 0
        return left_out


class Refusals:
    """What one server, or one frame, refused.

    Attributes:
        counted: how many requests, by the error's code.
        turned_away: how many connections, refused or closed to make room, by the reason.
    """

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.turned_away: Counter[str] = Counter()
        self._refused = Seldom()
        self._turned_away = Seldom()

    def note(self, refused: Refused, address: str) -> None:
        """Count a request, and log some; the next one logged says how many were left out.

        The event holds nothing the client sent, but its address.
        """
        self.counted[refused.code] += 1
        left_out = self._refused.left_out()
        if left_out is not None:
            _log.warning(
                "request_refused", status=refused.status, reason=refused.code, client_address=address, left_out=left_out
            )

    def note_turned_away(self, reason: str, address: str) -> None:
        """Count a connection, and log some of them."""
        self.turned_away[reason] += 1
        left_out = self._turned_away.left_out()
        if left_out is not None:
            _log.warning("connection_refused", reason=reason, client_address=address, left_out=left_out)
