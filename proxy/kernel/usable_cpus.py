"""The number of CPUs that this process may use."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""The share of a container, by version 2 of control groups: microseconds of CPU time, or ``max``, and of how many."""


def usable_cpus(quota: Path = QUOTA) -> int:
    """Return the CPUs that the process may run on, or as many as its container may use, whichever is less."""
    cpus = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        most, period = quota.read_text().split()
        if most != "max":
            cpus = min(cpus, math.ceil(int(most) / int(period)))
    return max(1, cpus)
