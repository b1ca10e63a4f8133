"""Count refused callers, and slow down addresses that send too many wrong credentials."""

import asyncio
from random import uniform
from typing import Final, Literal

from middleware.auth.address_standing import Standing
from middleware.auth.caller import NotLetIn, too_many
from middleware.auth.jwt import is_jwt
from middleware.auth.presented import Presented
from proxy.kernel.caller_text import KEY_PREFIX
from proxy.kernel.clock import Clock
from proxy.kernel.exchange import Exchange
from proxy.kernel.keepsakes import Keepsakes
from proxy.kernel.metrics import Metrics
from proxy.kernel.units import Rate

SLOWED: Final = 2.0
"""Average delay in seconds of an answer to an address that sent too many wrong credentials. The delay is random, so
that requests that arrive together do not return together."""

SLOWED_AT_ONCE: Final = 1000
"""Maximum number of delayed answers at a time; others are sent at once, to bound the memory that they take."""

Failures = Rate | Literal["off"]
Kind = Literal["key", "jwt", "opaque", "signature", "certificate", "malformed", "none"]


def kind_of(credential: Presented | None, exchange: Exchange) -> Kind:
    """Return the kind of a credential; None stands for one that cannot be read."""
    if credential is None:
        return "malformed"
    if (token := credential.token) is not None:
        return "key" if token.startswith(KEY_PREFIX) else "jwt" if is_jwt(token) else "opaque"
    if credential.signature is not None:
        return "signature"
    return "certificate" if exchange.scope.get("state", {}).get("tls_peer") else "none"


class FailureThrottle:
    """Counts refused callers.

    Args:
        failures: how many wrong credentials an address may send before it is slowed down.
        clock: the clock by which that rate refills.
        keepsakes: keep the record of addresses when the policy file is reloaded.
        metrics: count the refusals.

    Attributes:
        standing: the record of addresses.
    """

    def __init__(self, failures: Failures, clock: Clock, keepsakes: Keepsakes, metrics: Metrics | None) -> None:
        rate = failures if isinstance(failures, Rate) else None
        self.standing: Standing = keepsakes.keep((Standing, rate, clock), lambda: Standing(rate, clock))
        self._metrics = metrics
        self._slowed = 0

    async def refuse(self, refused: NotLetIn, kind: Kind, address: str) -> None:
        """Count a refused caller at `address`.

        If too many wrong credentials came from there, a 401 becomes Refused (429), raised after a delay.
        """
        wait = 0.0
        reason = refused.reason
        if refused.status == 401 and reason != "missing":
            wait = self.standing.wrong(address, kind, reason)
        if self._metrics is not None:
            self._metrics.not_let_in(kind, "too_many" if wait else reason)
        if refused.status == 429:
            self.standing.tell(address, kind, reason)
            await self._slow_down()
        elif wait:
            await self._slow_down()
            message = (
                "too many wrong keys or tokens came from this address, and this one is wrong, too; send a right one"
            )
            raise too_many(message, retry_after=wait) from None

    async def _slow_down(self) -> None:
        if self._slowed < SLOWED_AT_ONCE:
            self._slowed += 1
            try:
                await asyncio.sleep(uniform(0.5, 1.5) * SLOWED)
            finally:
                self._slowed -= 1
