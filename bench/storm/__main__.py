"""The command line of the storm: ``scripts/storm [--seconds N] [--seed N] [--clients N] [--nginx]``."""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

import orjson

from bench.storm.schedule import HOSTS, schedule
from bench.storm.servers import Server, nginx, nginx_path, proxy
from bench.storm.strikes import Host, rage
from bench.storm.verdict import Seen, Verdict, judge
from bench.targets import ROOT, TargetFailed

ENOUGH: Final = 0.995
"""The least share of the requests with a well host that has to succeed."""
MOST_ATTEMPTS: Final = 1.5
PATIENCE: Final = 70.0
"""Seconds that the clients may take after the storm for the answers that they wait for."""

Start = Callable[[Sequence[int], Path], AbstractContextManager[Server]]


def storm(start: Start, seed: int, seconds: float, clients: int, folder: Path) -> tuple[Verdict, Server]:
    """Let one storm pass over hosts, clients and the server that `start` runs; return the verdict and the server."""
    with ExitStack() as stack:
        hosts: list[Host] = []
        for number in range(HOSTS):
            hosts.append(Host(number))
            stack.callback(hosts[-1].stop)
        server = stack.enter_context(start([host.port for host in hosts], folder))
        command = [sys.executable, "-m", "bench.storm.clients", *map(str, (server.port, clients, seconds, seed))]
        asking = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        stack.callback(asking.kill)
        rage(hosts, schedule(seed, seconds), time.monotonic())
        told, _ = asking.communicate(timeout=seconds + PATIENCE)
        verdict = judge([Seen(*row) for row in orjson.loads(told)], [host.sick for host in hosts])
    return verdict, server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a storm over the proxy, and over nginx if asked to; returns 1 where the proxy lets too much fail."""
    options = _parse(arguments)
    kinds = [strike.kind for strike in schedule(options.seed, options.seconds)]
    _say(f"seed {options.seed}, {options.seconds:g} s, {options.clients} clients, {HOSTS} hosts: {_numbers(kinds)}")
    starts = [proxy]
    if options.nginx and nginx_path() is not None:
        starts.append(nginx)
    good = True
    for start in starts:
        with tempfile.TemporaryDirectory(prefix="storm-") as folder:
            try:
                verdict, server = storm(start, options.seed, options.seconds, options.clients, Path(folder))
            except (TargetFailed, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
                _say(f"the storm could not go on: {error}")
                return 1
            _say(f"{server.name}: {verdict}")
            if server.log is None:
                continue
            requests, attempts = server.attempts()
            _say(f"  {attempts / max(1, requests):.3f} attempts per request")
            good = verdict.share >= ENOUGH and not verdict.false and attempts <= MOST_ATTEMPTS * requests
            if options.log is not None:
                options.log.write_bytes(server.log.read_bytes())
    return 0 if good else 1


def _numbers(kinds: Sequence[str]) -> str:
    return ", ".join(f"{kinds.count(kind)} {kind}s" for kind in sorted(set(kinds)))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/storm", description="Kill, freeze, stall and cut hosts. Linux only.")
    parser.add_argument("--seconds", type=float, default=100.0, metavar="N", help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what happens to the hosts (%(default)s)")
    parser.add_argument("--clients", type=int, default=24, metavar="N", help="who ask at a time (%(default)s)")
    parser.add_argument("--nginx", action="store_true", help="let the same storm pass over nginx, if it is installed")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the proxy's log")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop on the way out what was started
    sys.exit(main())
