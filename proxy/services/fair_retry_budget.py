"""The retry budget: retries are a bounded share of all requests, and no caller takes it from the others."""

from dataclasses import dataclass
from typing import Final

from proxy.kernel.clock import Clock
from proxy.kernel.retry_budget import RetryBudget

ALONE: Final = 60.0
"""Seconds without a request of another caller after which one caller may take all saved retries."""
ACCOUNTS: Final = 1000
"""Callers that have an account; beyond that, callers without a running request are forgotten."""


@dataclass(slots=True)
class _Account:
    """A caller's account: its running requests, the saved retries that it took, the retries that it owes."""

    running: int = 0
    taken: float = 0.0
    owed: float = 0.0


class FairRetryBudget(RetryBudget):
    """Keeps retries a bounded share of all requests, whatever fails.

    Every request earns a share of a retry and every retry costs one; at most `ceiling` are saved up. A `reserve`, there
    from the start and filled again by `floor` retries a second, lets a quiet proxy retry at all. Proxies that share the
    budget (`proxy.fleet`) fill it together, and each has its part. When a host dies,
    everything that it was running has to go elsewhere at once: up to one retry for each request that runs may be owed.

    While others ask too, one caller may take half of what is saved, beyond what its own requests earned. It may owe as
    many as run of its own; what the worst debtor owes stands in nobody else's way. None stands for callers that are not
    told apart.
    """

    def __init__(self, clock: Clock, *, ceiling: float = 100.0, reserve: float = 10.0, floor: float = 1.0) -> None:
        self._clock = clock
        self._ceiling = ceiling
        self._reserve = reserve
        self._floor = floor
        self._parts = 1
        self._saved = reserve
        self._running = 0
        self._at = clock.monotonic()
        self._accounts: dict[str | None, _Account] = {}
        self._latest: str | None = None  # who asked last
        self._mixed_at = float("-inf")  # when somebody else asked than before

    def earn(self, share: float, caller: str | None = None) -> None:
        """Count one request of `caller` that may be retried, and runs until `done`."""
        account = self._account(caller)
        if caller != self._latest:
            if self._latest is not None:
                self._mixed_at = self._clock.monotonic()
            self._latest = caller
        account.running += 1
        self._running += 1
        repaid = min(share, account.owed)
        account.owed -= repaid
        account.taken = max(0.0, account.taken - (share - repaid))
        self._saved = min(self._ceiling / self._parts, self._saved + share - repaid)

    def done(self, caller: str | None = None) -> None:
        """Count one request of `caller` less that runs."""
        account = self._account(caller)
        account.running -= 1
        self._running -= 1
        if account.running <= 0 and account.taken <= 0.0 and account.owed <= 0.0:
            del self._accounts[caller]

    def spend(self, caller: str | None = None) -> bool:
        """Take one retry for a request of `caller` out of the budget; False where none is left for it."""
        self._pass_time()
        account = self._account(caller)
        alone = caller is None or self._at - self._mixed_at > ALONE
        if self._saved >= 1.0 and (alone or account.taken + 1.0 <= (self._saved + account.taken) / 2):
            self._saved -= 1.0
            account.taken += 1.0
            return True
        others = {key: other.owed for key, other in self._accounts.items() if key != caller}
        worst = max((owed for key, owed in others.items() if key is not None), default=0.0)
        owed = account.owed + sum(others.values()) - worst
        if account.owed + 1.0 <= account.running and owed + 1.0 <= self._running:
            account.owed += 1.0
            return True
        return False

    # Shared with other proxies

    @property
    def saved(self) -> float:
        """The retries that are saved."""
        return self._saved

    def move(self, by: float) -> None:
        """Add so many saved retries, or take so many away."""
        self._saved = min(self._ceiling / self._parts, self._saved + by)

    def shared_by(self, proxies: int) -> None:
        """Let this proxy keep its part of the ceiling, the reserve and the floor, which are those of all proxies."""
        self._parts = proxies

    def _account(self, caller: str | None) -> _Account:
        account = self._accounts.get(caller)
        if account is None:
            if len(self._accounts) >= ACCOUNTS:
                self._close_accounts()
            account = self._accounts[caller] = _Account()
        return account

    def _pass_time(self) -> None:
        """Let time pay what is owed, then fill the reserve; half as fast as that it forgets what was taken."""
        now = self._clock.monotonic()
        paid = (now - self._at) * self._floor / self._parts
        self._at = now
        for account in self._accounts.values():
            repaid = min(paid, account.owed)
            account.owed -= repaid
            paid -= repaid
        for account in self._accounts.values():
            account.taken = max(0.0, account.taken - paid / 2)
        reserve = self._reserve / self._parts
        if self._saved < reserve:
            self._saved = min(reserve, self._saved + paid)

    def _close_accounts(self) -> None:
        """Forget the callers of whom nothing runs: there are too many of them."""
        self._accounts = {caller: account for caller, account in self._accounts.items() if account.running > 0}
