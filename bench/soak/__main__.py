"""The command line of the soak: ``scripts/soak [--minutes N] [--streams N] [--plot FILE.svg] [--json FILE]``."""

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import orjson

from bench.report import table
from bench.soak.chart import chart
from bench.soak.part import Part
from bench.soak.plan import QUIET, SAMPLE_EVERY, Plan
from bench.soak.policy import OPERATOR, write_keys, write_policy
from bench.soak.sample import kernel, loop_lag, metrics, read_metrics
from bench.soak.verdict import faults, lag_fault, log_faults, rows
from bench.targets import ROOT, free_port, stop

RELOAD_EVERY: Final = 7.0
PATIENCE: Final = 20.0


class SoakFailed(Exception):
    """A part of the soak did not do what it should; the text says which."""


@dataclass
class Log:
    """Counts the lines of the proxy's log while they come, so that its pipe is never full."""

    requests: int = 0
    reloads: int = 0
    bad: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def read(self, lines: IO[bytes]) -> None:
        """Read to the end."""
        for line in lines:
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                self.bad.append(line[:200].decode(errors="replace"))
                continue
            name = event.get("event")
            self.requests += name == "request" and event.get("identity") != OPERATOR  # whose we are
            self.reloads += name == "config_loaded"
            if name in ("plugin_failed", "finisher_failed"):
                self.failed.append(line[:2000].decode())


class Soak:
    """One soak."""

    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        self.plan = plan
        self.log = Log()
        self.points: dict[str, list[tuple[float, float]]] = {}
        self.quiets: list[tuple[float, float]] = []
        self._folder = folder
        self._turn = 0
        self._hosts = Part(stack, "bench.soak.hosts", str(plan.seed))
        self._ports: list[int] = self._hosts.hear()
        self._port, self._ops = free_port(), free_port()
        self._keys = write_keys(folder)
        self._write()
        self._proxy = self._start_proxy(stack)
        given = {"port": self._port, "keys": self._keys, "streams": plan.streams, "seed": plan.seed}
        self._clients = Part(stack, "bench.soak.clients", orjson.dumps(given).decode())
        self._began = time.monotonic()

    def _start_proxy(self, stack: ExitStack) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(self._folder / "soak.yaml")]
        said = stack.enter_context((self._folder / "stderr").open("wb"))
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        stack.callback(stop, process)
        assert process.stdout is not None
        self._reading = threading.Thread(target=self.log.read, args=(process.stdout,))
        self._reading.start()
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError):
                metrics(self._ops, self._keys[OPERATOR])
                return process
            if process.poll() is not None or time.monotonic() > deadline:
                raise SoakFailed(f"the proxy does not answer: {(self._folder / 'stderr').read_text()}")
            time.sleep(0.1)

    def run(self, say: Callable[[str], None]) -> list[str]:
        """Do all of it, and return what is wrong."""
        plan = self.plan
        say(f"warming up for {plan.warm_up:.0f} s")
        self._load(plan.warm_up)
        lag_begin, begin = self._lag, self._quiet(say)
        say(f"soaking for {plan.main:.0f} s")
        self._load(plan.main)
        lag_end, end = self._lag, self._quiet(say)
        seen = self._clients.end()
        self._proxy.terminate()
        code = self._proxy.wait(PATIENCE * 3)
        self._reading.join(PATIENCE)
        say("")
        say(table([("", "beginning", "end", "change"), *rows(begin, end)]))
        say(
            f"\n{seen['asked']} requests, {seen['whole']} streams whole, {seen['broken']} broken off or left, "
            f"{self.log.requests} log lines, {self.log.reloads} reloads; refused: "
            + ", ".join(f"{count} × {status}" for status, count in sorted(seen["refused"].items()))
            + f"; loop lag p99 below {lag_begin:g} s in the beginning, {lag_end:g} s in the end"
        )
        found = [
            *faults(begin, end, plan.tolerance),
            *lag_fault(lag_begin, lag_end),
            *log_faults(seen["answers"], seen["asked"], self.log.requests, seen["broken"]),
            *seen["wrong"],
            *(f"not JSON in the log: {line}" for line in self.log.bad[:5]),
            *self.log.failed[:5],
        ]
        if code:
            found.append(f"the proxy ended with exit code {code}")
        if not seen["whole"] or not self.log.reloads:
            found.append("nothing was tried: no whole stream, or no reload")
        return found

    def _load(self, seconds: float) -> None:
        """Let the clients work and the hosts fail for a while; note the loop's lag in its last quarter."""
        self._hosts.tell("sick")
        self._clients.tell("go")
        begin = time.monotonic()
        reload_at = begin + RELOAD_EVERY
        text, before = "", ""
        while (now := time.monotonic()) < begin + seconds:
            if now >= reload_at:
                self._write()
                reload_at = now + RELOAD_EVERY
            text = self._sample()
            if not before and now >= begin + seconds * 0.75:
                before = text
            time.sleep(SAMPLE_EVERY)
        self._lag = loop_lag(text, before)

    def _quiet(self, say: Callable[[str], None]) -> dict[str, float]:
        """Pause everybody, wait until what is unused is closed, and return what is left."""
        say(f"quiet for {QUIET:.0f} s")
        self._hosts.tell("well")
        self._clients.tell("pause")
        self._clients.hear()
        begin = time.monotonic()
        while time.monotonic() < begin + QUIET:
            self._sample()
            time.sleep(SAMPLE_EVERY)
        self.quiets.append((begin - self._began, time.monotonic() - self._began))
        return {name: points[-1][1] for name, points in self.points.items()}

    def _sample(self) -> str:
        text = metrics(self._ops, self._keys[OPERATOR])
        at = time.monotonic() - self._began
        for name, value in {**kernel(self._proxy.pid), **read_metrics(text)}.items():
            self.points.setdefault(name, []).append((at, value))
        return text

    def _write(self) -> None:
        write_policy(self._folder, self._port, self._ops, self._ports, self._turn)
        self._turn += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one soak; returns the exit code."""
    options = _parse(arguments)
    plan = Plan(minutes=options.minutes, streams=options.streams, seed=options.seed, tolerance=options.tolerance / 100)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, ExitStack() as stack:
        try:
            soak = Soak(plan, Path(folder), stack)
            found = soak.run(_say)
        except (SoakFailed, OSError, RuntimeError) as error:
            _say(f"the soak could not go on: {error}")
            return 1
    if options.plot is not None:
        options.plot.write_text(chart(soak.points, soak.quiets), "utf-8")
    if options.json is not None:
        options.json.write_bytes(orjson.dumps({"points": soak.points, "quiet": soak.quiets, "faults": found}))
    for fault in found:
        _say(f"FAULT {fault}")
    _say("the end is as the beginning" if not found else f"{len(found)} faults")
    return 1 if found else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Find what grows in a running proxy. Linux only.")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="how long (%(default)s)")
    parser.add_argument("--streams", type=int, default=120, metavar="N", help="clients at a time (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what fails and who asks (%(default)s)")
    parser.add_argument(
        "--tolerance", type=float, default=5.0, metavar="N", help="per cent by which memory may grow (%(default)s)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the numbers over time, as SVG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers over time")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop on the way out what was started
    sys.exit(main())
