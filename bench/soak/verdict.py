"""Whether the end of a soak is as its beginning."""

from collections.abc import Mapping, Sequence
from typing import Final

from bench.soak.sample import Sample

NOTHING: Final = ("requests running", "slots taken", "waiting", "body bytes", "log lines lost")
"""Numbers that are zero whenever nobody asks for anything."""
SAME: Final = ("tasks", "threads", "descriptors")
"""Numbers that return to what they were."""
ROOM: Final[Mapping[str, float]] = {"descriptors": 3, "tasks": 2, "threads": 2}
"""How far they may be off: a probe may be under way, and a thread of the pool is made when it is first needed."""
GROWS: Final = ("memory", "series")
"""Numbers that may be more by a share."""


def faults(begin: Sample, end: Sample, tolerance: float) -> list[str]:
    """Return what is wrong with two quiet samples, a sentence each.

    Args:
        begin: after the warm-up.
        end: after everything else.
        tolerance: the share by which what `GROWS` names may have grown.
    """
    stayed = [name for name in NOTHING if end[name]]
    changed = [name for name in SAME if abs(end[name] - begin[name]) > ROOM[name]]
    grown = [name for name in GROWS if end[name] > begin[name] * (1 + tolerance)]
    return [
        *(f"{name}: {end[name]:g} with nobody there" for name in stayed),
        *(f"{name}: {begin[name]:g} in the beginning, {end[name]:g} in the end" for name in (*changed, *grown)),
    ]


def lag_fault(begin: float, end: float) -> list[str]:
    """Return what is wrong with the lag of the loaded event loop, 99th percentiles as bounds of buckets, seconds."""
    return [f"loop lag: {begin:g} s in the beginning, {end:g} s in the end"] if end > begin * 4 and end > 0.05 else []


def log_faults(answers: int, asked: int, lines: int, broken: int) -> list[str]:
    """Return whether each answer has its line in the log, and no request has two.

    Args:
        answers: heads that clients saw.
        asked: requests that were sent, some only in part.
        lines: of requests, in the log.
        broken: connections that ended before their answer.
    """
    found = []
    if lines < answers:
        found.append(f"log: {lines} lines for {answers} answers")
    if lines > asked:
        found.append(f"log: {lines} lines for {asked} requests")
    if lines > answers + broken:
        found.append(f"log: {lines} lines, {answers} answers and {broken} broken connections")
    return found


def rows(begin: Sample, end: Sample) -> Sequence[tuple[str, ...]]:
    """Return a table: name, beginning, end, change."""
    return [(name, _shown(name, begin[name]), _shown(name, end[name]), _percent(begin, end, name)) for name in begin]


def _percent(begin: Sample, end: Sample, name: str) -> str:
    return "" if not begin[name] else f"{100 * (end[name] / begin[name] - 1):+.1f} %"


def _shown(name: str, value: float) -> str:
    return f"{value / 2**20:.1f} MiB" if name == "memory" else f"{value:g}"
