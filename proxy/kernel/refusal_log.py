"""Counts the refusals that come before any plugin, and logs a few of them."""

from collections import Counter

import structlog

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused
from proxy.kernel.log_throttle import Seldom

_log = structlog.get_logger("ollama_proxy.server")


class Refusals:
    """The refusals of one server, or of one frame.

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
                "request_refused",
                status=refused.status,
                reason=refused.code,
                error_code=refused.code,
                client_address=address,
                left_out=left_out,
            )

    def note_turned_away(self, reason: str, address: str | None = None) -> None:
        """Count a refused connection; with an address, log some of them, without one only count."""
        self.turned_away[reason] += 1
        if address is None:
            return
        left_out = self._turned_away.left_out()
        if left_out is not None:
            _log.warning(
                "connection_refused",
                reason=reason,
                error_code=codes.TOO_MANY_CONNECTIONS,
                client_address=address,
                left_out=left_out,
            )
