"""What a recorded chunk costs: the full chain with `resumable`, in each home of the journal, beside the full chain."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Final

from bench.report import FULL, METRICS, ratio, values
from bench.rounds import Run
from bench.targets import Variant

PROMISE: Final = 1.5
CHUNK: Final = METRICS[0]
"""The CPU time per streamed chunk."""
RECORDED: Final[dict[str, Any]] = {"resumable": {"grace": "30s", "keep": "1MiB"}}


def recorded(full: Variant, stores: Sequence[str]) -> list[Variant]:
    """Return the variants that record: the full chain with `resumable` behind `auth`, once for each store."""
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in full.middleware]
    place = names.index("auth") + 1
    chain = [*full.middleware[:place], RECORDED, *full.middleware[place:]]
    return [
        replace(full, name=f"recorded, {store.partition(':')[0]}", middleware=chain, settings={"store": store})
        for store in stores
    ]


def price(runs: Sequence[Run]) -> list[list[str]]:
    """Return the rows of the table, its head first: each kind of record beside the plain chunk of the same round."""
    rows = [["", CHUNK.name, "÷ plain", "promised"]]
    for target in dict.fromkeys(run.target for run in runs):
        found, times = values(runs, CHUNK, target), ratio(runs, CHUNK, target, FULL)
        if not found or times is None:
            continue
        verdict = "" if target == FULL else f"≤ {PROMISE:g} x: {'kept' if times <= PROMISE else 'BROKEN'}"
        rows.append([target, f"{median(found.values()):.1f}", f"{times:.2f}", verdict])
    return rows
