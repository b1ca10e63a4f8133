"""Turn the options of a limit into the quota of a request."""

from collections.abc import Sequence

from middleware.rate_limit.options import Limit, Rates
from proxy.kernel.exchange import Exchange
from proxy.kernel.quota_key import By, key_of
from proxy.kernel.quotas import Level, Quota, Window
from proxy.kernel.units import Rate


class Rule:
    """A limit of an entry, compiled for use.

    Args:
        entry: the entry's name; the counters are named by it and the limit's name.
        limit: the limit's options.
        share: the part of the amounts that applies while the store cannot be reached.

    Raises ValueError if it limits nothing.
    """

    def __init__(self, entry: str, limit: Limit, share: float) -> None:
        self.name = limit.name
        self.by: tuple[By, ...] = (limit.by,) if isinstance(limit.by, str) else limit.by
        self.on_store_failure = limit.on_store_failure
        self.counts_tokens = bool(limit.tokens)
        self._prefix = f"{entry}/{limit.name}/"
        self._shared = _windows(limit.requests, 1.0), _windows(limit.tokens, 1.0), limit.streams
        self._local = (
            _windows(limit.requests, share),
            _windows(limit.tokens, share),
            None if limit.streams is None else _part(limit.streams, share),
        )
        if not self.by:
            raise ValueError(f"{limit.name}: by must name at least one of identity, tenant, address and model")
        if not (limit.requests or limit.tokens or limit.streams):
            raise ValueError(f"{limit.name} limits nothing: give requests, tokens or streams")
        for windows in self._shared[:2]:
            # Two such windows would share one counter, and each request would count twice.
            if len({window.place(0.0) for window in windows}) < len(windows):
                raise ValueError(f"{limit.name}: two rates are for the same time; keep the smaller one")

    def quota(self, exchange: Exchange) -> Quota:
        """Return the quota of the request."""
        return Quota(self._prefix + key_of(self.by, exchange), *self._shared)

    def local(self, quota: Quota) -> Quota:
        """Return the part of `quota` that this process allows while the store cannot be reached."""
        return Quota(quota.key, *self._local)

    def describe(self, level: Level) -> str:
        """Return how full one counter of this limit is, as the beginning of a sentence."""
        whom = " and ".join(self.by)
        if level.window is None:
            return f"{level.used} of {level.amount} requests are running for this {whom}"
        return f"{level.used} of {level.amount} {level.unit} per {level.window.period} are used for this {whom}"


def _windows(rates: Rates, share: float) -> tuple[Window, ...]:
    return tuple(Window(_reduced(rate, share)) for rate in ([rates] if isinstance(rates, Rate) else rates))


def _reduced(rate: Rate, share: float) -> Rate:
    amount = _part(rate.amount, share)
    return Rate(amount, rate.per, f"{amount}/{rate.text.partition('/')[2]}")


def _part(amount: int, share: float) -> int:
    return max(1, int(amount * share))


def rules_of(entry: str, limits: Sequence[Limit], share: float) -> tuple[Rule, ...]:
    """Return the rules of an entry; raises ValueError if two have the same name."""
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two limits are called {name}")
    return tuple(Rule(entry, limit, share) for limit in limits)
