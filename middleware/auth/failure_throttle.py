"""What happens to callers who are not let in: they are counted, and slowed where too many come from one address."""

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
"""Seconds that an answer is held back from an address which sent too many wrong credentials, on average: many that come
together do not come together again."""

SLOWED_AT_ONCE: Final = 1000
"""Answers held back at a time; others are given at once, so that they are not kept in memory without bound."""

Failures = Rate | Literal["off"]
Kind = Literal["key", "jwt", "opaque", "signature", "certificate", "malformed", "none"]


def kind_of(credential: Presented | None, exchange: Exchange) -> Kind:
    """Return the kind of what was presented; None is what could not be read."""
    if credential is None:
        return "malformed"
    if (token := credential.token) is not None:
        return "key" if token.startswith(KEY_PREFIX) else "jwt" if is_jwt(token) else "opaque"
    if credential.signature is not None:
        return "signature"
    return "certificate" if exchange.scope.get("state", {}).get("tls_peer") else "none"


class Doorkeeper:
    """Counts who is not let in.

    Args:
        failures: how many wrong credentials an address may send before it is slowed.
        clock: for how they come back.
        keepsakes: hold what is known of addresses when the policy file is loaded again.
        metrics: where it is counted.

    Attributes:
        standing: what is known of addresses.
    """

    def __init__(self, failures: Failures, clock: Clock, keepsakes: Keepsakes, metrics: Metrics | None) -> None:
        rate = failures if isinstance(failures, Rate) else None
        self.standing: Standing = keepsakes.keep((Standing, rate, clock), lambda: Standing(rate, clock))
        self._metrics = metrics
        self._slowed = 0

    async def refuse(self, refused: NotLetIn, kind: Kind, address: str) -> None:
        """Count a caller at `address` who is `refused`.

        Raises Refused (429), after a while, in place of a 401 where too many wrong credentials came from there.
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
