"""The record of good and wrong credentials by client address.

Many people may share an address. A correct key, or a token that can be checked here, is therefore always accepted from
it. Only *wrong* credentials are bounded, and tokens that a provider must be asked about. An address is one of IPv4, or
the /64 of one of IPv6.
"""

from typing import Final

import structlog

from middleware.auth.caller import Reason
from middleware.auth.provider_queue import Rank
from proxy.kernel.client_address import block
from proxy.kernel.clock import Clock
from proxy.kernel.log_throttle import Seldom
from proxy.kernel.lru import Recent
from proxy.kernel.units import Rate

REMEMBERED: Final = 10_000
"""Maximum number of addresses in each memory; beyond it, the least recently used are forgotten."""

DEFAULT: Final = Rate.parse("60/minute")

_log = structlog.get_logger("ollama_proxy.auth")


class Buckets:
    """Token buckets by key: each holds up to `Rate.amount`, which refills evenly over `Rate.per`."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._amount = float(rate.amount)
        self._second = rate.per / rate.amount
        self._clock = clock
        self._spent: Recent[str, tuple[float, float]] = Recent(REMEMBERED)

    def __len__(self) -> int:
        return len(self._spent)

    def spent(self, key: str) -> float:
        """Return how much of its bucket `key` has spent and not regained."""
        spent, at = self._spent.get(key, (0.0, 0.0))
        return max(0.0, spent - (self._clock.monotonic() - at) / self._second)

    def wait(self, key: str) -> float:
        """Return the seconds until `key` may spend one; 0 if it may now."""
        return max(0.0, self.spent(key) + 1.0 - self._amount) * self._second

    def spend(self, key: str, *, owe: bool = False) -> bool:
        """Spend one, and return whether one was left. If not, nothing is spent, unless `owe` makes it a debt."""
        spent = self.spent(key) + 1.0
        if spent > self._amount and not owe:
            return False
        self._spent.note(key, (spent, self._clock.monotonic()))
        return spent <= self._amount


class Standing:
    """Counts wrong credentials by address, in this process.

    Args:
        rate: how many an address may send before it must wait; None for no bound.
        clock: the clock by which the rate refills.
    """

    def __init__(self, rate: Rate | None, clock: Clock) -> None:
        self._clock = clock
        self._wrong = Buckets(rate, clock) if rate is not None else None
        self._asked = Buckets(rate or DEFAULT, clock)
        self._good: Recent[str, None] = Recent(REMEMBERED)
        self._told: Recent[str, float] = Recent(REMEMBERED)
        self._logged = Seldom(clock.monotonic)

    def wrong(self, address: str, credential: str, reason: Reason) -> float:
        """Count a wrong credential. Return 0 if it is within the bound, else the seconds until the next may come.

        The first one beyond the bound is logged.

        Args:
            address: the caller's address.
            credential: its kind, for the log.
            reason: why it is wrong, for the log.
        """
        if self._wrong is None:
            return 0.0
        key = block(address)
        if self._wrong.spend(key):
            return 0.0
        self.tell(address, credential, reason)
        return self._wrong.wait(key)

    def asked_in_vain(self, address: str) -> None:
        """Count a token from `address` that the provider did not know."""
        self._asked.spend(block(address), owe=True)

    def wait_to_ask(self, address: str) -> float:
        """Return the seconds until new tokens from `address` may be introspected again; 0 for now."""
        return 0.0 if self._wrong is None else self._asked.wait(block(address))

    def good(self, address: str) -> None:
        """Record a token from `address` that the provider knew."""
        self._good.note(block(address), None)

    def rank(self, address: str) -> Rank:
        """Return the rank of a question about a new token from `address`."""
        key = block(address)
        good, doubted = key in self._good, self._asked.spent(key) > 0.0
        if good is doubted:
            return Rank.NEW
        return Rank.TRUSTED if good else Rank.DOUBTED

    def tell(self, address: str, credential: str, reason: Reason) -> None:
        """Log that an address must wait: once a minute for each, and seldom in all (`proxy.kernel.log_throttle`)."""
        key = block(address)
        now = self._clock.monotonic()
        if now < self._told.get(key, now):
            return
        self._told.note(key, now + 60.0)
        left_out = self._logged.left_out()
        if left_out is not None:
            _log.warning(
                "wrong_credentials", client_address=address, credential=credential, reason=reason, left_out=left_out
            )
