"""What a fleet of 100 proxies, 1,000 hosts and 10,000 tenants on one Redis would do; ``docs/scale.md`` explains.

::

    python -m bench.scale             # simulate, and write the numbers and the tables of docs/scale.md
    python -m bench.scale --measure   # before that, measure what the commands cost a Redis on this machine

``scale_measure.py`` measures, ``scale_fleet.py`` simulates, ``scale_line.py`` has the line and a node of Redis. The
numbers are kept in ``scale.json``, so that a test can compare the page with them.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from bench.scale_fleet import Command, Costs, Fleet, Plan
from bench.scale_measure import measure

ROOT: Final = Path(__file__).resolve().parents[1]
NUMBERS: Final = ROOT / "bench" / "scale.json"
PAGE: Final = ROOT / "docs" / "scale.md"
CALLS: Final = 20_000

PLANS: Final = (
    Plan("half busy", load=0.5),
    Plan("half busy, no permits", load=0.5, linger=0.0),
    Plan("just busy", load=0.95),
    Plan("three times too much", load=3.0),
    Plan("one tenant asks for all", load=1.8, greedy=0.5),
    Plan("ten proxies die", load=0.9, dying=0.1),
    Plan("short answers (1 s)", load=0.9, work=1.0, seconds=80.0),
    Plan("embeddings (0.5 s)", load=0.9, work=0.5, seconds=40.0),
    Plan("embeddings (0.5 s), no permits", load=0.9, work=0.5, seconds=40.0, linger=0.0),
    Plan("embeddings (0.2 s)", load=0.9, work=0.2, seconds=16.0),
    Plan("embeddings (0.2 s), 4 nodes", load=0.9, work=0.2, seconds=16.0, nodes=4),
    Plan("embeddings (0.2 s), a quarter of the hosts", load=0.9, work=0.2, seconds=40.0, hosts=250),
)
STANDS_FOR: Final[dict[Command, str]] = {"admit": "admit", "settle": "settle", "take": "admit", "release": "admit"}
"""The measured script that a command of the simulation costs as much as."""

HEADS: Final = ("round trips before it runs", "busiest node")

Row = dict[str, Any]


def costs(measured: Mapping[str, float]) -> Costs:
    """Return what the commands of the simulation cost, in seconds."""
    found: Costs = {command: measured[name] / 1e6 for command, name in STANDS_FOR.items()}
    found["renew"] = measured["ping"] / 1e6
    found["renew_each"] = 2e-6
    return found


def simulate(plan: Plan, cost: Costs) -> Row:
    """Run a plan; return its row."""
    fleet = Fleet(plan, cost)
    fleet.run()
    waits = sorted(fleet.waits)
    started = max(1, len(waits))
    return {
        "name": plan.name,
        "requests": round(started / fleet.counted, 1),
        "slot_use": round(fleet.slot_use, 3),
        "most_leased": fleet.most_leased,
        "fairness": round(fleet.fairness, 3),
        "wait_p50": round(waits[len(waits) // 2], 4) if waits else 0.0,
        "wait_p99": round(waits[int(len(waits) * 0.99)], 4) if waits else 0.0,
        "commands": round(fleet.commands / fleet.counted),
        "per_request": round(fleet.commands / started, 2),
        "trips": round(fleet.trips / started, 2),
        "busiest": round(max(fleet.load), 3),
    }


def commands_table(measured: Mapping[str, float]) -> str:
    """Return the table of what each command costs, as Markdown."""
    lines = ["| command | CPU of the server, µs | one node does a second |", "|---|---:|---:|"]
    for name, cost in measured.items():
        if name != "bytes":
            lines.append(f"| {name} | {cost:.1f} | {_rounded(1e6 / cost)} |")
    return "\n".join(lines)


def bounds_table(measured: Mapping[str, float]) -> str:
    """Return the table of what one node is enough for, if it did nothing else, as Markdown."""
    live = sum(measured[name] for name in STANDS_FOR.values())
    deferred = sum(measured[name] for name in ("add", "claim", "finish", "read")) + 10 * measured["append"]
    rows = (
        ("live requests a second (admit, take, settle, release)", _rounded(1e6 / live)),
        ("recorded streams at once, 4 appends a second each", _rounded(1e6 / measured["append"] / 4)),
        ("deferred requests a second (add, claim, 10 appends, finish, read)", _rounded(1e6 / deferred)),
        ("claims that beat every 10 s", _rounded(1e7 / measured["beat"])),
        ("queued requests of 2 KB in 1 GiB of memory", _rounded(2**30 / (measured["bytes"] + 2048))),
    )
    return "\n".join(["| one node is enough for | |", "|---|---:|", *(f"| {name} | {most} |" for name, most in rows)])


def fleet_table(rows: Sequence[Row]) -> str:
    """Return the table of the simulation, as Markdown."""
    heads = ("", "requests/s", "slot use", "Jain", "wait p50", "wait p99", "commands/s", "per request", *HEADS)
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    lines += [
        f"| {row['name']} | {row['requests']:,.0f} | {row['slot_use']:.1%} | {row['fairness']:.3f} "
        f"| {_time(row['wait_p50'])} | {_time(row['wait_p99'])} | {row['commands']:,} | {row['per_request']:.2f} "
        f"| {row['trips']:.2f} | {row['busiest']:.1%} |"
        for row in rows
    ]
    return "\n".join(lines)


def with_tables(page: str, numbers: Mapping[str, Any]) -> str:
    """Return the page with the tables of `numbers` between its marks."""
    tables = {
        "commands": commands_table(numbers["commands"]),
        "bounds": bounds_table(numbers["commands"]),
        "fleet": fleet_table(numbers["fleet"]),
    }
    for name, table in tables.items():
        head, begin, rest = page.partition(f"<!-- {name}: written by python -m bench.scale -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        page = f"{head}{begin}\n{table}\n\n{end}{tail}"
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate every plan, and write the numbers and the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="Simulate a large fleet on one Redis.")
    parser.add_argument("--measure", action="store_true", help="measure the commands anew, by a Redis of its own")
    options = parser.parse_args(arguments)
    measured = asyncio.run(measure(CALLS)) if options.measure else orjson.loads(NUMBERS.read_bytes())["commands"]
    rows = []
    for plan in PLANS:
        rows.append(simulate(plan, costs(measured)))
        print(rows[-1], file=sys.stderr, flush=True)
    numbers = {"commands": measured, "fleet": rows}
    NUMBERS.write_bytes(orjson.dumps(numbers, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), numbers), "utf-8")
    return 0


def _rounded(number: float) -> str:
    """Return a number with two digits that count."""
    digits = 2 - len(str(int(number)))
    return f"{round(number, digits):,.0f}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
