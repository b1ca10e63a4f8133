"""The kernel's numbers, read from processes of ours."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from bench.meter import cpu_ns, family, rss_bytes

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
child.communicate()
"""


@pytest.fixture
def parent() -> Iterator[tuple[int, int]]:
    """A process with a child; their ids."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.communicate()


def test_family_has_the_children(parent: tuple[int, int]) -> None:
    assert family(parent[0]) == list(parent)


def test_cpu_of_other_processes_is_there_and_adds_up(parent: tuple[int, int]) -> None:
    pid, child = parent
    both = cpu_ns([pid, child])
    assert both == pytest.approx(cpu_ns([pid]) + cpu_ns([child]), abs=10**8)
    assert both > 0


def test_cpu_counts_threads_that_have_ended() -> None:
    before = cpu_ns([os.getpid()])
    used: list[int] = []

    def work() -> None:
        while time.thread_time_ns() < 10**7:
            pass
        used.append(time.thread_time_ns())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cpu_ns([os.getpid()]) - before >= used[0]


def test_rss_grows_with_what_is_touched() -> None:
    before = rss_bytes([os.getpid()])
    held = bytearray(b"x") * 2**26
    assert rss_bytes([os.getpid()]) - before >= 2**25
    assert len(held) == 2**26


def test_a_process_that_is_gone_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match="Invalid argument"):
        cpu_ns([process.pid])
