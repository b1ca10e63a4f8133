"""The schedule of a storm: when each host is struck, how, and for how long. A pure function of seed and length."""

import random
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["kill", "stall", "pause", "cut"]

HOSTS: Final = 3
NUMBERS: Final[dict[Kind, int]] = {"kill": 21, "stall": 13, "pause": 7, "cut": 18}
"""Strikes of each kind in a storm of a hundred seconds."""
LASTS: Final[dict[Kind, tuple[float, float]]] = {
    "kill": (0.3, 3.0),
    "stall": (1.0, 6.0),
    "pause": (1.0, 6.0),
    "cut": (0.0, 0.0),
}
"""Seconds from the strike until the host begins to get well."""
BOOT: Final = 1.0
"""Seconds that a host is reckoned to need until it is well again."""
QUIET: Final = (2.0, 4.0)
"""Seconds at the beginning and at the end without a strike."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One strike: `at` seconds after the beginning, at the host of that number, for `lasts` seconds."""

    at: float
    host: int
    kind: Kind
    lasts: float


def schedule(seed: int, seconds: float) -> list[Strike]:
    """Return the strikes of a storm in order of time; one host at least is well at any time."""
    rng = random.Random(seed)
    kinds = [kind for kind, number in NUMBERS.items() for _ in range(max(1, round(number * seconds / 100)))]
    rng.shuffle(kinds)
    end = seconds - QUIET[1]
    times = sorted(rng.uniform(QUIET[0], end) for _ in kinds)
    well_at = [0.0] * HOSTS
    strikes: list[Strike] = []
    for kind, wanted in zip(kinds, times, strict=True):
        at = max(wanted, sorted(well_at)[1])  # so that two are well: the one that is struck, and another
        host = rng.choice([number for number, well in enumerate(well_at) if well <= at])
        lasts = min(rng.uniform(*LASTS[kind]), max(0.0, end - at))
        well_at[host] = at + lasts + BOOT
        strikes.append(Strike(at, host, kind, lasts))
    return strikes
