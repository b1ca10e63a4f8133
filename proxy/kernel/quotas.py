"""Quotas, and how full a store found them: plain data that plugins and stores share."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from limits import RateLimitItemPerSecond

from proxy.kernel.units import Rate

Unit = Literal["requests", "tokens", "streams"]

SLICES: Final = 60
"""Tokens are summed in so many slices of a moving window; one slice at most counts longer than it should."""


class Window(RateLimitItemPerSecond):
    """A rate the way the strategies of `limits` take it.

    Its key is the counter's name alone, without the amount: who comes under another policy goes on counting.

    Attributes:
        rate: what was configured.
        period: its window in words: ``minute``, ``10s``.
        calendar: a day or a month of the calendar (UTC) is counted; None: any `rate.per` seconds in a row are.
        slice: seconds after which tokens are summed anew; 0 where the whole window is one sum.
    """

    __slots__ = ("calendar", "period", "rate", "slice")

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate.amount)
        self.rate = rate
        self.period = rate.text.partition("/")[2]
        self.calendar = rate.calendar
        self.slice = 0.0 if self.calendar else rate.per / SLICES

    def get_expiry(self) -> int:
        """Return how long a hit is remembered, seconds."""
        if self.calendar:
            return 31 * 86400 if self.calendar == "month" else 86400
        return self.rate.per  # type: ignore[return-value]  # windows may be fractions of a second; our storages take them

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        """Return the storage key."""
        return "/".join(map(str, identifiers))

    def place(self, now: float) -> tuple[str, float | None]:
        """Return which of its windows the time `now` falls in, as part of a key, and when that ends (1970 based).

        A moving window has one name and no end.
        """
        if self.calendar is None:
            return f"{self.rate.per:g}s", None
        return _calendar(self.calendar, int(now // 86400))

    def __repr__(self) -> str:
        return f"<Window {self.rate}>"


@lru_cache(maxsize=8)
def _calendar(period: Literal["day", "month"], day: int) -> tuple[str, float]:
    today = datetime.fromtimestamp(day * 86400, UTC)
    if period == "day":
        return f"{today:%Y-%m-%d}", (today + timedelta(days=1)).timestamp()
    first = today.replace(day=1)
    return f"{first:%Y-%m}", (first + timedelta(days=32)).replace(day=1).timestamp()


@dataclass(frozen=True, slots=True)
class Quota:
    """The amounts that the requests counted under `key` may use.

    Attributes:
        key: names the counters.
        requests: requests let through.
        tokens: tokens in and out. What a running request has reserved counts until its real number is known.
        streams: requests running at the same time, streamed or not; None for any number.
        asked_again: whether anybody asks `Store.known` about it, so that a store remembers when it is full.
    """

    key: str
    requests: tuple[Window, ...] = ()
    tokens: tuple[Window, ...] = ()
    streams: int | None = None
    asked_again: bool = True

    @property
    def leased(self) -> bool:
        """Return whether a running request holds something of this quota."""
        return bool(self.tokens) or self.streams is not None


@dataclass(frozen=True, slots=True)
class Lease:
    """The part of its quotas that one running request holds: a place in `streams`, `tokens` of every token window.

    It ends by `Store.settle`; where the process dies before, a shared store ends it after a while.
    """

    id: str
    quotas: tuple[Quota, ...]
    tokens: int


class Level(NamedTuple):
    """The state of one counter.

    Attributes:
        quota: its quota's place in the list that was asked about.
        used: may exceed `amount`: whoever finds one token left is let through, whatever it may cost.
        resets_in: seconds until the day or month ends, or until some of a moving window is free again, and where it is
            full until it has room, as far as the window tells. 0 where nothing is used, or by running requests only.
        window: what is counted, None for streams.
    """

    quota: int
    unit: Unit
    amount: int
    used: int
    resets_in: float
    window: Window | None = None

    @property
    def left(self) -> int:
        """Return the amount that may still be used."""
        return max(0, self.amount - self.used)

    def charged(self, cost: int) -> "Level":
        """Return the level with `cost` more in use."""
        resets_in = self.resets_in or (self.window.rate.per if self.window else 0.0)
        return Level(self.quota, self.unit, self.amount, self.used + cost, resets_in, self.window)

    @property
    def full(self) -> bool:
        """Return whether nothing is left."""
        return self.used >= self.amount


class Admission(NamedTuple):
    """A store's decision about one request.

    Attributes:
        levels: every counter in the order of the quotas, this request included where it was let through.
        full: the counters that have no room. Empty: let through. Otherwise refused, and nothing was charged anywhere.
        lease: what the request holds from now on; None where it holds nothing.
    """

    levels: tuple[Level, ...]
    full: tuple[Level, ...] = ()
    lease: Lease | None = None
