"""How busy the machine was: a storm that starves its own processes of CPU says nothing about a fleet."""

import os
import time
from pathlib import Path

from bench.fleet.verdict import Judgement
from bench.meter import cpu_ns, family


class Usage:
    """Measures the CPU of a process with its children, and of the whole machine, from now on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._own: dict[int, int] = {}
        self._first: dict[int, int] = {}
        self._began = time.monotonic()
        self._machine = _machine()
        self._share = self._busy = 0.0
        self._look(self._first)

    def during(self, seconds: float) -> None:
        """Measure until so many seconds have passed since the beginning."""
        while (left := self._began + seconds - time.monotonic()) > 0:
            self._look(self._own)
            time.sleep(min(1.0, left))
        self._look(self._own)
        used = sum(spent - self._first.get(pid, 0) for pid, spent in self._own.items())
        self._share = used / 1e9 / (time.monotonic() - self._began) / (os.cpu_count() or 1)
        busy, whole = (now - before for now, before in zip(_machine(), self._machine, strict=True))
        self._busy = busy / max(1, whole)

    def judgements(self) -> list[Judgement]:
        """Return what was measured."""
        said = f"{self._share:.0%} by the storm, {self._busy:.0%} in all, of {os.cpu_count()} cores"
        return [Judgement("CPU in use", said)]

    def _look(self, into: dict[int, int]) -> None:
        try:
            pids = family(self._pid)
        except OSError:  # one has just ended; it is looked at again in a second
            return
        for pid in pids:
            try:
                into[pid] = cpu_ns([pid])
            except OSError:
                continue


def _machine() -> tuple[int, int]:
    """Return the time that all cores were busy, and all their time, in the kernel's ticks."""
    numbers = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)
