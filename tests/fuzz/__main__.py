"""``scripts/fuzz``: run targets under atheris for a while, say what came of it, keep what is worth keeping."""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz.corpora import FOLDER, kept
from tests.fuzz.keep import worth_keeping
from tests.fuzz.shrink import failure, shrunk
from tests.fuzz.targets import NAMES, Target, target

WORK: Final = Path(".fuzz")
LONGEST: Final = 2048
"""Bytes of an input."""
SLOWEST: Final = 20
"""Seconds after which an input counts as a finding."""
MEMORY: Final = 2048
"""Megabytes from which on an input counts as a finding."""
GRACE: Final = 60
"""Seconds a target may take to start and to end."""

_EXECUTIONS: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What came of one target.

    Attributes:
        executions: inputs tried.
        new: inputs that reached code no other reached before.
        finding: the file of the input that failed.
        said: how it failed, in a few lines.
    """

    name: str
    executions: int
    new: int
    finding: Path | None = None
    said: str = ""


class Limits(NamedTuple):
    """How long a target is tried: for `seconds`, or for `runs` executions (0: any number). A seed repeats a search."""

    seconds: int
    runs: int = 0
    seed: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit code."""
    options = _options(arguments)
    with ThreadPoolExecutor(options.jobs) as pool:
        limits = Limits(options.seconds, options.runs, options.seed)
        runs = list(pool.map(lambda name: _shown(run(name, limits)), options.targets or NAMES))
    if options.keep:
        for name in options.targets or NAMES:
            keep(name)
    return 1 if any(one.finding or one.said for one in runs) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(NAMES)}; all where left out")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--runs", type=int, default=0, help="executions at most (0: as the seconds allow)")
    parser.add_argument("--seed", type=int, default=0, help="begin the search here (0: somewhere else each time)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (1)")
    parser.add_argument("--keep", action="store_true", help="put the inputs that reach new code into tests/fuzz/corpus")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no target is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return options


def run(name: str, limits: Limits) -> Run:
    """Let atheris look within `limits`, from the kept inputs and from those of earlier runs."""
    work, findings = WORK / "work" / name, WORK / "findings" / name
    for folder in (work, findings):
        folder.mkdir(parents=True, exist_ok=True)
    before, began = set(work.iterdir()), time.time()
    command = [
        *(sys.executable, "-m", "tests.fuzz.engine", name, str(work), str(FOLDER / name)),
        *(f"-max_total_time={limits.seconds}", f"-runs={limits.runs or -1}", f"-seed={limits.seed}"),
        *(f"-max_len={LONGEST}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}"),
        *(f"-artifact_prefix={findings}/", f"-dict={_dictionary(name)}", "-print_final_stats=1"),
    ]
    environment = {**os.environ}
    environment["PYTHONPATH"] = os.pathsep.join((str(WORK.resolve() / "lib"), *filter(None, [os.getenv("PYTHONPATH")])))
    environment["PYTHONHASHSEED"] = str(limits.seed or "random")
    patience = limits.seconds + GRACE
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return Run(name, 0, 0, said=f"did not end within {patience} seconds")
    said = done.stderr.decode("utf-8", "replace")
    executions = _EXECUTIONS.search(said)
    found = [path for path in findings.iterdir() if path.stat().st_mtime >= began and path.suffix != ".small"]
    new = len(set(work.iterdir()) - before)
    if not done.returncode:
        return Run(name, int(executions[1]) if executions else 0, new)
    if not found:
        return Run(name, 0, new, said=said[-2000:])
    return Run(name, int(executions[1]) if executions else 0, new, *_explained(target(name), found[-1]))


def _explained(tried: Target, finding: Path) -> tuple[Path, str]:
    """Make a finding small where it fails here as well; return its file and how it fails."""
    how = failure(tried.check, finding.read_bytes())
    if how is None:
        return finding, f"{finding.name.partition('-')[0]}: it is slow, takes much memory, or fails by what ran before"
    small = finding.with_suffix(".small")
    small.write_bytes(shrunk(tried.check, finding.read_bytes()))
    return small, str(failure(tried.check, small.read_bytes()))


def _shown(done: Run) -> Run:
    print(f"{done.name:15} {done.executions:9} executions, {done.new:4} new inputs", flush=True)
    if done.finding or done.said:
        print(f"  FOUND {done.said[:1500]}\n  in {done.finding}", flush=True)
        print(f"  again: .venv/bin/python -m tests.fuzz.again {done.name} {done.finding}", flush=True)
    return done


def _dictionary(name: str) -> Path:
    """Write a target's tokens as libFuzzer reads them."""
    file = WORK / f"{name}.dict"
    words = {token for token in target(name).TOKENS if 1 < len(token) <= 64}
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in sorted(words)]
    file.write_text("".join(f'"{word}"\n' for word in escaped))
    return file


def keep(name: str) -> None:
    """Add the inputs of earlier runs that reach lines or branches which the kept ones do not."""
    found = {path.name: path.read_bytes() for path in sorted((WORK / "work" / name).iterdir())}
    for data in worth_keeping(target(name).check, kept(name).values(), found.values()):
        (FOLDER / name / f"found_{sha256(data).hexdigest()[:12]}").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
