"""Runs every target in turn, several times over, so that what disturbs the machine disturbs all of them alike."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from bench.load import Job, Measured, read_measured
from bench.plan import Profile
from bench.targets import ROOT, Target, Variant, backend, make_key, nginx, proxy, redis

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One profile on one target in one round."""

    round: int
    target: str
    profile: Profile
    measured: Measured


class Bench:
    """Starts targets and puts load on them. Use as a context manager, which stops what it started.

    Args:
        say: told about progress.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._stack = ExitStack()

    def __enter__(self) -> "Bench":
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ollama-proxy-bench-")))
        self._key = make_key(self._folder)
        self.direct = self._stack.enter_context(backend())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def nginx(self) -> Target:
        """Start nginx."""
        return self._stack.enter_context(nginx(self.direct, self._folder))

    def proxy(self, variant: Variant) -> Target:
        """Start the proxy."""
        return self._stack.enter_context(proxy(variant, self.direct, self._folder, self._key))

    def compare(self, targets: Sequence[Target], profiles: Sequence[Profile], rounds: int) -> list[Run]:
        """Run each profile on each target, `rounds` times; every round begins with another target."""
        return [
            self.run(target, profile, number)
            for number in range(rounds)
            for profile in profiles
            for target in _turned(targets, number)
        ]

    def memory(self, variant: Variant | None, profiles: Sequence[Profile], warm_up: Profile) -> list[Run]:
        """Hold many streams open on a fresh process for each profile; nginx where there is no variant."""
        runs: list[Run] = []
        for profile in profiles:
            with ExitStack() as stack:
                if variant is None:
                    target = stack.enter_context(nginx(self.direct, self._folder))
                else:
                    target = stack.enter_context(proxy(variant, self.direct, self._folder, self._key))
                self._load(target, warm_up)
                runs.append(self.run(target, profile, 0))
        return runs

    def redis(self) -> str:
        """Start a Redis, and return its URL."""
        return self._stack.enter_context(redis())

    def workers(self, variant: Variant, profile: Profile, rounds: int) -> list[Run]:
        """Run a profile on the proxy as one process, and for each of two as much of it, `rounds` times."""
        store = self.redis()
        pairs = [
            (
                self.proxy(replace(variant, name=f"workers: {count}", settings={"store": store, "workers": count})),
                replace(profile, connections=profile.connections * count, per_second=profile.per_second * count),
            )
            for count in (1, 2)
        ]
        for target, load in pairs:
            self._load(target, load)  # by the end of it all workers serve
        return [
            self.run(target, load, number)
            for number in range(rounds)
            for target, load in (pairs if number % 2 else pairs[::-1])
        ]

    def run(self, target: Target, profile: Profile, number: int) -> Run:
        """Put one load on one target."""
        measured = self._load(target, profile)
        problems = f", {measured.errors} errors" * bool(measured.errors) + f", {measured.late} late" * bool(
            measured.late
        )
        self._say(f"round {number + 1}  {profile.name:<12} {target.name}{problems}")
        return Run(number, target.name, profile, measured)

    def _load(self, target: Target, profile: Profile) -> Measured:
        assert self.direct.pid is not None
        pids = [] if target is self.direct else target.pids
        job = Job(profile, target.port, self._key, pids, self.direct.pid)
        command = [sys.executable, "-m", "bench.load", orjson.dumps(asdict(job)).decode()]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        return read_measured(done.stdout)


def _turned(targets: Sequence[Target], by: int) -> list[Target]:
    turn = by % len(targets)
    return [*targets[turn:], *targets[:turn]]
