"""From runs to numbers people can compare: a value per run, the median of the rounds, the ratio to nginx."""

import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from bench.load import Measured, Spread
from bench.plan import Profile
from bench.rounds import Run

NGINX: Final = "nginx"
FULL: Final = "full"
QUIET_US: Final = 2000
"""Microseconds in which 99 of 100 chunks arrive where there is no proxy and nothing else to do, with room to spare."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a run.

    Attributes:
        name: how the table calls it, with its unit.
        profile: the name of the profile whose runs have it.
        read: takes it from a run; None where the run has none.
        promise: what the full chain is to keep: at most so many times nginx, or, with `absolute`, at most so much.
    """

    name: str
    profile: str
    read: Callable[[Measured, Profile], float | None]
    promise: float | None = None
    absolute: bool = False


def _us(spread: Spread | None, share: Literal["p50", "p99"]) -> float | None:
    return None if spread is None else getattr(spread, share) / 1000


def _cpu(measured: Measured, who: str, per: int) -> float | None:
    used = measured.cpu.get(who)
    return used / per / 1000 if used and per else None


def _stream_memory(measured: Measured, profile: Profile) -> float | None:
    return (measured.rss - measured.rss_before) / profile.connections / 1024 if measured.rss else None


METRICS: Final = (
    Metric("CPU per streamed chunk, µs", "stream", lambda m, _: _cpu(m, "target", m.chunks), 2.0),
    Metric("CPU per short request, µs", "short", lambda m, _: _cpu(m, "target", m.requests), 12.0),
    Metric("chunk transit p50, µs", "stream", lambda m, _: _us(m.transit, "p50"), 2.0),
    Metric("chunk transit p99, µs", "stream", lambda m, _: _us(m.transit, "p99")),
    Metric("time to first token p50, µs", "first", lambda m, _: _us(m.first, "p50")),
    Metric("time to first token p99, µs", "first", lambda m, _: _us(m.first, "p99")),
    Metric("short request p50, µs", "short", lambda m, _: _us(m.whole, "p50")),
    Metric("short request p99, µs", "short", lambda m, _: _us(m.whole, "p99")),
    Metric("memory per stream at 1,000, KB", "memory-1000", _stream_memory, 40.0, absolute=True),
    Metric("memory per stream at 5,000, KB", "memory-5000", _stream_memory),
    Metric("fake backend's CPU per chunk, µs", "stream", lambda m, _: _cpu(m, "backend", m.chunks)),
    Metric("clients' CPU per chunk, µs", "stream", lambda m, _: _cpu(m, "clients", m.chunks)),
)
PLUGIN_METRICS: Final = METRICS[:2]


def values(runs: Iterable[Run], metric: Metric, target: str) -> dict[int, float]:
    """Return the values of `metric` on `target`, by round."""
    found = {
        run.round: metric.read(run.measured, run.profile)
        for run in runs
        if run.target == target and run.profile.name == metric.profile
    }
    return {number: value for number, value in found.items() if value is not None}


def ratio(runs: Sequence[Run], metric: Metric, target: str, to: str = NGINX) -> float | None:
    """Return the median over the rounds of `target` divided by `to`, each pair from one round."""
    above, below = values(runs, metric, target), values(runs, metric, to)
    pairs = [above[number] / below[number] for number in above.keys() & below.keys() if below[number]]
    return median(pairs) if pairs else None


def cost(runs: Sequence[Run], metric: Metric, target: str, without: str) -> tuple[float, float, float] | None:
    """Return what `target` costs more than `without`: the median of the rounds' differences, least and most."""
    above, below = values(runs, metric, target), values(runs, metric, without)
    differences = [above[number] - below[number] for number in above.keys() & below.keys()]
    return (median(differences), min(differences), max(differences)) if differences else None


def comparison(runs: Sequence[Run]) -> list[list[str]]:
    """Return the rows of the table that compares all targets, its head first."""
    targets = list(dict.fromkeys(run.target for run in runs))
    compared = [target for target in targets if target not in (NGINX, "direct")]
    rows = [["", *targets, *(f"{target} ÷ nginx" for target in compared), "promised"]]
    for metric in METRICS:
        found = [values(runs, metric, target) for target in targets]
        if any(found):
            medians = [_number(median(value.values())) if value else "-" for value in found]
            ratios = [ratio(runs, metric, target) for target in compared]
            rows.append(
                [metric.name, *medians, *("-" if r is None else f"{r:.2f}" for r in ratios), _kept(runs, metric)]
            )
    return rows


def _kept(runs: Sequence[Run], metric: Metric) -> str:
    if metric.promise is None:
        return ""
    found = values(runs, metric, FULL)
    value = (median(found.values()) if found else None) if metric.absolute else ratio(runs, metric, FULL)
    verdict = "" if value is None else " kept" if value <= metric.promise else " BROKEN"
    return f"≤ {metric.promise:g}{'' if metric.absolute else ' x'}{verdict}"


def doubts(runs: Sequence[Run]) -> list[str]:
    """Return what speaks against believing these numbers, in sentences."""
    found = []
    transit = values(runs, next(metric for metric in METRICS if metric.name.startswith("chunk transit p99")), "direct")
    if transit and median(transit.values()) > QUIET_US:
        found.append(
            "The machine was busy with something else: even with no proxy between, one chunk in a hundred took "
            f"longer than {median(transit.values()) / 1000:.1f} ms. Do not believe the delays."
        )
    errors = sum(run.measured.errors for run in runs)
    if errors:
        found.append(f"{errors} requests failed.")
    late, asked = (sum(getattr(run.measured, name) for run in runs) for name in ("late", "requests"))
    if late > asked / 100:
        found.append(f"{late} requests were not sent in time, as all connections were in use.")
    return found


def plugin_costs(runs: Sequence[Run]) -> list[list[str]]:
    """Return the rows of the table of what each plugin costs, its head first."""
    rows = [["left out of the full chain", *(f"{metric.name} (least to most)" for metric in PLUGIN_METRICS)]]
    for target in dict.fromkeys(run.target for run in runs):
        if target != FULL:
            costs = [cost(runs, metric, FULL, target) for metric in PLUGIN_METRICS]
            rows.append([target, *("-" if c is None else f"{c[0]:+.1f} ({c[1]:+.1f} to {c[2]:+.1f})" for c in costs)])
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return `rows`, the head first, as a Markdown table that is also aligned as text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(_cells(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + (":" if n else "-") for n, width in enumerate(widths)) + "|")
    return "\n".join(lines)


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def document(compared: Sequence[Run], plugins: Sequence[Run]) -> dict[str, Any]:
    """Return everything that was found, and on what, for a JSON file."""
    return {
        "machine": machine(),
        "runs": [_run(run, METRICS) for run in compared],
        "plugin_runs": [_run(run, PLUGIN_METRICS) for run in plugins],
        "comparison": _records(comparison(compared)) if compared else [],
        "plugins": _records(plugin_costs(plugins)) if plugins else [],
        "doubts": doubts([*compared, *plugins]),
    }


def _run(run: Run, metrics: Sequence[Metric]) -> dict[str, Any]:
    measured = run.measured
    return {
        "round": run.round,
        "target": run.target,
        "profile": asdict(run.profile),
        "chunks": measured.chunks,
        "requests": measured.requests,
        "errors": measured.errors,
        "late": measured.late,
        "values": {m.name: m.read(measured, run.profile) for m in metrics if m.profile == run.profile.name},
    }


def _records(rows: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    head = [name or "metric" for name in rows[0]]
    return [dict(zip(head, row, strict=True)) for row in rows[1:]]


def machine() -> dict[str, Any]:
    """Return on what the numbers were found."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "nginx": _nginx_version(),
        **{name: version(name) for name in ("uvicorn", "uvloop", "httptools", "orjson")},
    }


def _nginx_version() -> str | None:
    try:
        said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.strip().rpartition("/")[2]
