"""What a second worker is good for: how many requests two of them could answer, each on a core of its own.

The load comes from the same machine, so two workers may not have two cores for themselves. So this counts CPU time: who
uses most of it is the first to have no more. Where the load is spread evenly and a second process costs nothing, two
workers answer twice as much as one.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from bench.rounds import Run

PROMISE: Final = 1.8
WORKER_LOAD: Final = 0.6
"""The part of the usual rate that each worker gets, so that two cores are enough for two workers and their clients."""
ONE: Final = "workers: 1"
TWO: Final = "workers: 2"


def gains(runs: Sequence[Run]) -> list[list[str]]:
    """Return the rows of the table, its head first."""
    found = records(runs)
    rows = [["", ONE, TWO, "ratio"]]
    for name in ("requests per CPU second of the busiest process", "CPU per request of all processes, µs"):
        one, two = (median(record[name] for record in found if record["target"] == target) for target in (ONE, TWO))
        pairs = list(_pairs(found, name))
        rows.append([name, f"{one:,.0f}", f"{two:,.0f}", f"{median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"])
    shares = [record["largest share"] for record in found if record["target"] == TWO]
    rows.append(
        ["share of the busier worker", "1.00", f"{median(shares):.2f}", f"{min(shares):.2f} to {max(shares):.2f}"]
    )
    verdict = "kept" if median(_pairs(found, "requests per CPU second of the busiest process")) >= PROMISE else "BROKEN"
    rows.append(["promised", "", f"≥ {PROMISE:g} x", verdict])
    return rows


def records(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the numbers of each run."""
    return [_record(run) for run in runs]


def _record(run: Run) -> dict[str, Any]:
    measured = run.measured
    busiest, total = max(measured.shares), sum(measured.shares)
    return {
        "round": run.round,
        "target": run.target,
        "requests": measured.requests,
        "seconds": measured.seconds,
        "errors": measured.errors,
        "requests per CPU second of the busiest process": measured.requests / busiest * 1e9,
        "CPU per request of all processes, µs": total / measured.requests / 1000,
        "largest share": busiest / total,
    }


def _pairs(found: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Return two workers divided by one, each pair from one round."""
    by_round = {(record["round"], record["target"]): record[name] for record in found}
    return [value / by_round[number, ONE] for (number, target), value in by_round.items() if target == TWO]
