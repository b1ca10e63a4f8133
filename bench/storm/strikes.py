"""Strike the hosts as scheduled, and note when each of them was not well."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from bench.storm.schedule import Strike
from bench.targets import ROOT, free_port

CUT: Final = 0.05
"""Seconds for which a host counts as not well around a cut."""

Interval = tuple[float, float]


class Host:
    """One host: its process, and when it was not well, in seconds of the monotonic clock."""

    def __init__(self, number: int) -> None:
        self.port = free_port()
        self.sick: list[Interval] = []
        self._number = number
        self._process = self._start()

    def strike(self, strike: Strike) -> None:
        """Strike the host, wait, and make it well again; returns when it is."""
        began = time.monotonic()
        match strike.kind:
            case "kill":
                self.stop()
                time.sleep(strike.lasts)
                self._process = self._start()
            case "pause":
                os.kill(self._process.pid, signal.SIGSTOP)
                time.sleep(strike.lasts)
                os.kill(self._process.pid, signal.SIGCONT)
            case "stall":
                self._tell("stall")
                time.sleep(strike.lasts)
                self._tell("well")
            case "cut":
                self._tell("cut")
                time.sleep(CUT)
        self.sick.append((began, time.monotonic()))

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start a process and wait until it listens."""
        command = [sys.executable, "-m", "bench.storm.host", str(self.port), str(self._number)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"host {self._number} does not listen on port {self.port}")
        return process

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()


def rage(hosts: Sequence[Host], strikes: Sequence[Strike], began: float) -> None:
    """Strike `hosts` at the times after `began` that `strikes` names; returns when all of them are well again."""
    threads: list[threading.Thread] = []
    for strike in strikes:
        time.sleep(max(0.0, began + strike.at - time.monotonic()))
        busy = next((thread for thread in threads if thread.name == str(strike.host) and thread.is_alive()), None)
        if busy is not None:
            busy.join()  # it took longer to get well than it was reckoned to
        thread = threading.Thread(target=hosts[strike.host].strike, args=(strike,), name=str(strike.host))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
