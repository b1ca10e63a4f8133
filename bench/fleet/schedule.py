"""The schedule of a storm over a fleet: what is struck when, and for how long. A pure function of seed and length."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.fleet.plan import PROXIES

Kind = Literal["kill", "restart", "failover", "crash", "freeze", "hang"]
Faults = Literal["none", "proxies", "redis", "all", "restart", "failover", "crash", "freeze", "hang"]

LASTS: Final[dict[Kind, tuple[float, float]]] = {
    "kill": (0.3, 3.0),  # a proxy, by SIGKILL, and started again
    "restart": (0.0, 0.3),  # the primary Redis, by SIGKILL, and started again before Sentinel acts
    "failover": (0.0, 0.0),  # Sentinel is asked to make the replica the primary
    "crash": (1.0, 2.0),  # the primary is killed, and started again when Sentinel has made the replica the primary
    "freeze": (0.3, 1.2),  # the primary is stopped, for less than Sentinel waits
    "hang": (0.5, 2.0),  # the primary is stopped, and goes on when Sentinel has made the replica the primary
}
"""Seconds that each kind lasts; of those that end in a failover, after it."""
OF: Final[dict[Faults, Sequence[Kind]]] = {
    "none": (),
    "proxies": ("kill",),
    "restart": ("restart",),
    "failover": ("failover",),
    "crash": ("crash",),
    "freeze": ("freeze",),
    "hang": ("hang",),
    "redis": ("restart", "failover", "crash", "freeze", "hang"),
    "all": ("kill", "restart", "kill", "failover", "kill", "crash", "kill", "freeze", "kill", "hang"),
}
QUIET: Final = 6.0
"""Seconds at the beginning, and at the end, without a strike."""
REST: Final = (6.0, 10.0)
"""Seconds from the moment when a strike is over, with the time to get well, to the next one."""
WELL: Final = 6.0
"""Seconds that one is reckoned to need to get well."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One strike: `at` seconds after the beginning, for `lasts` seconds; `proxy` is the number of who is killed."""

    at: float
    kind: Kind
    lasts: float
    proxy: int


def schedule(seed: int, seconds: float, faults: Faults) -> list[Strike]:
    """Return the strikes in order of time; each kind comes once before any comes again as often."""
    rng = random.Random(seed)
    strikes: list[Strike] = []
    bag: list[Kind] = []
    at = QUIET
    while OF[faults] and at < seconds - QUIET - WELL:
        if not bag:
            bag = list(OF[faults])
            rng.shuffle(bag)
        kind = bag.pop()
        lasts = rng.uniform(*LASTS[kind])
        strikes.append(Strike(at, kind, lasts, rng.randrange(PROXIES)))
        at += lasts + WELL + rng.uniform(*REST)
    return strikes
