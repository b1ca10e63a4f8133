"""proxy/services/system_clock.py: both readings come from the machine's own clocks."""

import time

from proxy.services.system_clock import SystemClock


def test_it_reads_the_clocks_of_the_machine() -> None:
    clock = SystemClock()
    assert time.monotonic() <= clock.monotonic() <= time.monotonic()
    assert time.time() <= clock.time() <= time.time()
