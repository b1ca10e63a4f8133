"""The place of one process among those that serve the same addresses, as the application needs to know it."""

from dataclasses import dataclass
from typing import Final

from config.settings import Settings
from proxy.kernel.body_budget import BodyBudget, SharedBodyBudget
from proxy.kernel.peers import Peers
from proxy.kernel.shared_numbers import SharedNumbers
from proxy.server.connection_counts import COUNTS
from proxy.server.server import Seat
from proxy.wiring import body_bounds

CONNECTIONS: Final = 0
"""The column of the connections of the main listeners; those of single groups follow."""
BODIES: Final = CONNECTIONS + COUNTS
"""The column of the bytes that request bodies take."""
COLUMNS: Final = BODIES + 1


@dataclass(frozen=True)
class Membership:
    """The place of a worker.

    Attributes:
        peers: all workers.
        ops: the place of the listener for the ops routes alone; None where the policy file sets no address for it.
        numbers: what the workers count together.
        generation: the number of the configuration that the worker begins with.
    """

    peers: Peers
    ops: Seat | None
    numbers: SharedNumbers
    generation: int


def first_generation(membership: Membership | None) -> int:
    """Return the number of the configuration that a process begins with."""
    return 1 if membership is None else membership.generation


def make_bodies(settings: Settings, membership: Membership | None) -> BodyBudget:
    """Return the budget of request bodies: of this process, or its part of what all workers share."""
    bounds = body_bounds(settings)
    return BodyBudget(**bounds) if membership is None else SharedBodyBudget(membership.numbers, BODIES, bounds)
