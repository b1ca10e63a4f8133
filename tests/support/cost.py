"""What reading costs by the byte: whether it stays the same when there is more to read."""

from collections.abc import Callable
from contextlib import suppress
from time import thread_time
from typing import Any

from proxy.kernel.errors import Refused

STEPS = (1, 4, 16)
SLACK = 4.0
"""How much more a byte of the longest may cost than one of a shorter; what is quadratic costs sixteen times as much."""


def assert_flat(read: Callable[[Any], object], make: Callable[[int], Any], size: int) -> None:
    """Assert that reading costs about as much a byte for `size` bytes as for four and sixteen times as many.

    A refusal is an answer, too, and may come early. Only what this thread does is counted; whatever else the machine
    does can only make it slower, so the least of several runs counts, and a measurement that fails is taken again.

    Args:
        read: what is measured.
        make: returns what to read, of about so many bytes.
        size: bytes; large enough that reading takes longer than the clock's step.
    """
    costs: list[float] = []
    for _ in range(4):
        costs = [_cost(read, make(size * step)) / step for step in STEPS]
        if costs[2] < SLACK * max(costs[0], costs[1], 2e-6):
            return
    raise AssertionError(f"a byte costs more in a longer text: {[f'{cost / size * 1e9:.1f} ns' for cost in costs]}")


def _cost(read: Callable[[Any], object], data: Any) -> float:
    best = float("inf")
    for _ in range(3):
        began = thread_time()
        with suppress(Refused):
            read(data)
        best = min(best, thread_time() - began)
    return best
