"""The writer over real pipes: order, wholeness, blocking readers, forks, exit."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.telemetry.log_writer import Writer


class Pipe:
    """A pipe whose reader reads only when told."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.room = fcntl.fcntl(self.write_end, fcntl.F_GETPIPE_SZ)
        self._open = {self.read_end, self.write_end}

    def close(self, *ends: int) -> None:
        for end in ends or tuple(self._open):
            if end in self._open:
                self._open.discard(end)
                os.close(end)

    def read_all(self) -> list[bytes]:
        """Close the write end and return every line that was written."""
        self.close(self.write_end)
        with os.fdopen(self.read_end, "rb") as reader:
            self._open.discard(self.read_end)
            return reader.read().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_lines_leave_in_order_and_whole(pipe: Pipe) -> None:
    lines = [b"%d " % n + b"x" * (n * 37 % 5000) for n in range(400)]
    got: list[bytes] = []

    def read() -> None:
        with os.fdopen(os.dup(pipe.read_end), "rb") as file:
            got.extend(file.read().splitlines())

    reader = threading.Thread(target=read)
    reader.start()
    writer = Writer(pipe.write_end)
    for line in lines:
        writer.write(line)
    writer.close()
    pipe.close(pipe.write_end)
    reader.join()
    assert got == lines
    assert writer.dropped == 0


def test_lines_of_many_threads_do_not_mix(pipe: Pipe) -> None:
    writer = Writer(pipe.write_end)

    def write(name: bytes) -> None:
        for _ in range(50):
            writer.write(name * 20)

    threads = [threading.Thread(target=write, args=[name]) for name in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    got = pipe.read_all()
    assert sorted(got) == sorted(name * 20 for name in (b"a", b"b", b"c", b"d") for _ in range(50))


def test_a_blocked_reader_costs_lines_but_never_time_and_the_loss_is_told(pipe: Pipe) -> None:
    writer = Writer(pipe.write_end, max_lines=100)
    line = b"x" * 999
    sent = 0
    while writer.dropped < 50:  # nobody reads: pipe and queue fill up
        writer.write(line)
        sent += 1
    assert sent < pipe.room // len(line) + 200
    dropped = writer.dropped
    got: list[bytes] = []
    with os.fdopen(os.dup(pipe.read_end), "rb") as reader:
        while not (got and b"log_lines_dropped" in got[-1]):
            got.append(reader.readline())
    event = json.loads(got.pop())
    assert (event["level"], event["lines"]) == ("warning", dropped)
    assert len(got) == sent - dropped
    writer.write(b"after")
    writer.close()
    assert pipe.read_all() == [b"after"]


def test_the_bound_on_bytes(pipe: Pipe) -> None:
    writer = Writer(pipe.write_end, max_bytes=100)
    writer.write(b"x" * 200)
    assert writer.dropped == 1
    writer.close()


def test_close_gives_up_on_a_reader_that_never_reads(pipe: Pipe) -> None:
    writer = Writer(pipe.write_end)
    for _ in range(pipe.room // 1000 + 100):
        writer.write(b"x" * 999)
    writer.close(timeout=0.0)
    assert writer.dropped > 0
    assert "closed, 0 lines wait" in repr(writer)


def test_lines_after_close_are_counted_as_dropped(pipe: Pipe) -> None:
    writer = Writer(pipe.write_end)
    writer.close()
    writer.write(b"late")
    assert writer.dropped == 1
    assert pipe.read_all() == []


def test_a_reader_that_left_stops_nothing(pipe: Pipe) -> None:
    pipe.close(pipe.read_end)
    writer = Writer(pipe.write_end)
    writer.write(b"nobody")
    writer.close()
    assert writer.dropped == 1


def test_a_non_blocking_descriptor_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)  # another process may have set this on a shared stdout
    lines = [b"%05d" % n + b"x" * 5000 for n in range(40)]
    writer = Writer(pipe.write_end)
    for line in lines:
        writer.write(line)
    with os.fdopen(os.dup(pipe.read_end), "rb") as reader:
        assert [reader.readline().rstrip(b"\n") for _ in lines] == lines
    writer.close()


def test_what_follows_a_torn_line_begins_a_line_of_its_own(pipe: Pipe) -> None:
    writer = Writer(pipe.write_end)
    writer.write(b"t" * (2 * pipe.room))  # longer than the pipe: half of it stays behind
    writer.close(timeout=0.0)
    assert os.read(pipe.read_end, 2 * pipe.room) == b"t" * pipe.room
    writer._reset()
    writer.write(b"next")
    writer.close()
    assert pipe.read_all() == [b"", b"next"]


def test_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = Writer(file.fileno())
        for n in range(1000):
            writer.write(b"%d" % n)
        writer.close()
    assert path.read_bytes().split() == [b"%d" % n for n in range(1000)]


def test_a_forked_child_writes_its_own_lines_and_not_its_parents(pipe: Pipe) -> None:
    script = f"""
import os
from proxy.telemetry.log_writer import Writer
writer = Writer({pipe.write_end})
writer.write(b"parent")
child = os.fork()
writer.write(b"child" if not child else b"parent again")
writer.close()
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, pass_fds=[pipe.write_end], timeout=30)
    assert sorted(pipe.read_all()) == [b"child", b"parent", b"parent again"]


def test_nothing_is_lost_at_a_normal_exit() -> None:
    script = "from proxy.telemetry.log_writer import Writer\nw = Writer(1)\nfor n in range(5000): w.write(b'%d' % n)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=30)
    assert done.stdout.split() == [b"%d" % n for n in range(5000)]


def test_a_blocked_stdout_does_not_keep_the_process_from_exiting(pipe: Pipe) -> None:
    script = (
        "from proxy.telemetry.log_writer import Writer\nw = Writer(1)\n"
        "for n in range(5000): w.write(b'x' * 999)\nw.close(0.1)"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, stdout=pipe.write_end, timeout=30)
    assert time.monotonic() - started < 20


def test_many_lines_take_few_wake_ups(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    put = Writer._put

    def counted(writer: Writer, lines: list[bytes]) -> None:
        batches.append(len(lines))
        put(writer, lines)

    monkeypatch.setattr(Writer, "_put", counted)
    monkeypatch.setattr("proxy.telemetry.log_writer.LINGER", 30.0)
    writer = Writer(pipe.write_end)
    for n in range(1000):
        writer.write(b"%d" % n)
    writer.close()
    assert sum(batches) == 1000
    assert len(batches) <= 2
