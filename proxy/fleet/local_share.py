"""The share of a backend's slots that one proxy uses while it cannot ask for more."""

from typing import Final, NamedTuple

QUIET: Final = 2.0
"""Seconds of an outage in which a proxy keeps what it held, as others may still be granted all the rest."""
SHORTEST: Final = 3.0
"""Seconds after that until all proxies have the same share; twice as long as requests usually take, where that is more.
Before that one that held less takes only its part of what nobody held, as what others run has to end first."""
LONGEST: Final = 30.0
"""The most of these seconds."""
ALONE: Final = 10.0
"""Seconds after which a proxy that never saw another one takes all slots."""


class Place(NamedTuple):
    """The place of this proxy among those that were alive when the fleet was last seen.

    Attributes:
        alive: their number.
        rank: the number of this one, from 0.
    """

    alive: int = 1
    rank: int = 0

    def part(self, number: int) -> int:
        """Return the part of `number` that is this proxy's; the parts of all proxies add up to it."""
        return number // self.alive + (self.rank < number % self.alive)


def local_share(slots: int, held: int, elsewhere: int, place: Place | None, lost_for: float, usual: float) -> int:
    """Return the number of slots that a proxy may use.

    Args:
        slots: the slots of the backend.
        held: permits that this proxy held when the fleet was last seen.
        elsewhere: permits that the other proxies held then.
        place: its place among the proxies; None where it never saw them.
        lost_for: seconds since then.
        usual: seconds that requests usually take.
    """
    if lost_for < QUIET:
        return held
    if place is None:
        return slots if lost_for >= ALONE else held
    equal = place.part(slots)
    if lost_for >= QUIET + min(LONGEST, max(SHORTEST, 2 * usual)):
        return equal
    return min(equal, held + place.part(max(0, slots - held - elsewhere)))
