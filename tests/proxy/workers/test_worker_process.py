"""proxy/workers/worker_process.py, with a module of the test's own as the worker."""

import asyncio
import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.workers.worker_process import WorkerProcess

CODE = """
import os, signal, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
told = [sorted(int(number) for number in held), os.environ.get("NOTIFY_SOCKET"), os.fstat(FD).st_size]
message = ('{"ask": "note", "about": {"told": %s}, "n": 1}' % str(told).replace("None", "null")).encode()
sock.sendall(len(message).to_bytes(4) + message)
sock.recv(1)
sys.exit(3)
"""


async def test_it_inherits_files_and_not_what_is_the_parents_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.memfd_create("x")
    os.ftruncate(fd, 123)
    (tmp_path / "mine.py").write_text(CODE.replace("FD", str(fd)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("proxy.workers.worker_process.MODULE", "mine")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    told: list[Any] = []

    async def note(about: Mapping[str, Any]) -> None:
        told.extend(about["told"])

    worker = WorkerProcess.start(1, [fd], {"note": note}, {})
    async with asyncio.timeout(30):
        await worker.run(lambda: None)
    os.close(fd)
    assert told == [sorted(map(int, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))), None, 123]
    assert worker.end == "it ended with code 3"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM}


async def test_one_that_was_killed_says_by_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine2.py").write_text("import signal; signal.pause()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("proxy.workers.worker_process.MODULE", "mine2")
    worker = WorkerProcess.start(2, [], {}, {})
    assert worker.end == "it runs"
    async with asyncio.timeout(30):
        await worker.run(worker.kill)
    assert worker.end == "killed by SIGKILL"
    assert worker.lived > 0


def test_one_that_cannot_be_watched_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine3.py").write_text("import signal; signal.pause()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("proxy.workers.worker_process.MODULE", "mine3")
    started: list[int] = []

    def full(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", full)
    files = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Too many"):
        WorkerProcess.start(1, [], {}, {})
    assert os.listdir("/proc/self/fd") == files
    assert not Path(f"/proc/{started[0]}").exists()
