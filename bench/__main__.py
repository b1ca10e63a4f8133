"""The command line of the benchmark: ``scripts/bench [--quick] [--only …] [--rounds N] [--json FILE]``."""

import argparse
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson

from bench.credentials import measure, rows
from bench.plan import FIRST, MEMORY, SHORT, STREAM, Profile
from bench.recording import price, recorded
from bench.report import comparison, document, doubts, machine, plugin_costs, table
from bench.rounds import Bench, Run
from bench.targets import ROOT, TargetFailed, has_nginx, has_redis, variants
from bench.workers import WORKER_LOAD, gains, records

PARTS: Final = ("compare", "memory", "plugins", "credentials", "workers", "recording")
RESULTS: Final = ROOT / "bench" / "results" / "latest.json"
FILES_PER_STREAM: Final = 2
FILES_BESIDES: Final = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; returns the exit code."""
    options = _parse(arguments)
    quick: bool = options.quick
    rounds: int = options.rounds or (2 if quick else 7)
    parts: list[str] = options.only or list(PARTS)
    most_files = _allow_many_files()
    steady = [_shorter(profile) if quick else profile for profile in (STREAM, FIRST, SHORT)]
    held = [
        p for p in (MEMORY[:1] if quick else MEMORY) if p.connections * FILES_PER_STREAM + FILES_BESIDES <= most_files
    ]
    compared: list[Run] = []
    plugins: list[Run] = []
    several: list[Run] = []
    kept: list[Run] = []
    credentials = measure() if "credentials" in parts else {}
    try:
        with Bench(_say) as bench:
            bare, full, without = variants()
            if not has_nginx():
                _say("nginx is not installed: nothing to compare with")
            if "compare" in parts:
                targets = [
                    bench.direct,
                    *([bench.nginx()] if has_nginx() else []),
                    bench.proxy(bare),
                    bench.proxy(full),
                ]
                compared += bench.compare(targets, steady, rounds)
            if "memory" in parts:
                for variant in (*([None] if has_nginx() else []), bare, full):
                    compared += bench.memory(variant, held, warm_up=_shorter(FIRST))
            if "plugins" in parts:
                targets = [bench.proxy(variant) for variant in (full, *without)]
                plugins += bench.compare(targets, [_shorter(STREAM), _shorter(SHORT)], rounds)
            if "recording" in parts:
                stores = ["memory", "sqlite:state.db", *([bench.redis()] if has_redis() else [])]
                kept += bench.compare([bench.proxy(full), *map(bench.proxy, recorded(full, stores))], [STREAM], rounds)
            if "workers" in parts:
                if has_redis():
                    several += bench.workers(bare, replace(SHORT, per_second=SHORT.per_second * WORKER_LOAD), rounds)
                else:
                    _say("redis-server is not installed: several workers need it")
    except TargetFailed as error:
        _say(str(error))
        return 1
    _print(compared, plugins)
    for more in (credentials and rows(credentials), kept and price(kept), several and gains(several)):
        if more:
            print(f"\n{table(more)}")
    file: Path = options.json
    file.parent.mkdir(parents=True, exist_ok=True)
    found = {
        **document(compared, plugins),
        "credentials": credentials,
        "workers": records(several),
        "recording": price(kept),
    }
    file.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the proxy against nginx. Linux only.")
    parser.add_argument("--quick", action="store_true", help="two short rounds, for a first impression")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many rounds (7, quick 2)")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part of it; may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where the numbers go")
    return parser.parse_args(arguments)


def _shorter(profile: Profile) -> Profile:
    return replace(profile, seconds=1.5)


def _allow_many_files() -> int:
    """Raise the soft limit of open files to the hard one, for the processes we start too, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _print(compared: Sequence[Run], plugins: Sequence[Run]) -> None:
    found = machine()
    print(", ".join(f"{name} {value}" for name, value in found.items() if value is not None))
    if compared:
        print(f"\n{table(comparison(compared))}")
    if plugins:
        print(f"\n{table(plugin_costs(plugins))}")
    for doubt in doubts([*compared, *plugins]):
        print(f"\n{doubt}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop on the way out what was started
    sys.exit(main())
