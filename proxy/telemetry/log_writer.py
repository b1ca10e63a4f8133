"""Writes log lines out of the process; no caller ever waits.

The loop thread must never wait for who reads our output: a terminal that was paused, a pipe nobody drains, a full
disk. So it only puts a finished line into a bounded queue, and a thread writes. What does not fit is dropped and
counted, and the count is logged as soon as lines flow again.
"""

import atexit
import os
import select
import stat
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from proxy.kernel.log_lines import SCHEMA, Render, json_line, process_fields, stamp
from proxy.kernel.log_sink import LogSink
from proxy.telemetry.log_turns import Turns

LINGER: Final = 0.025
"""Seconds that the writer waits for more lines before it writes, so that it wakes once for many lines."""
SHORTLY: Final = 0.005
"""Seconds until it is tried again to take a turn that another process has."""
PATIENCE: Final = 0.25
"""Seconds between two checks whether a blocked writer must give up."""


class Writer(LogSink):
    """Writes lines to a file descriptor from a thread of its own.

    `write` costs the caller a queue append and never blocks. Lines leave in order, whole lines at a time and, into a
    pipe, in pieces that the kernel keeps together (PIPE_BUF), so lines of several processes on one pipe do not mix.
    The thread starts with the first line and does not survive a fork; a forked child starts its own, without what its
    parent had queued.

    Args:
        fd: the file descriptor; it stays open when the writer is closed.
        max_lines: how many lines may wait.
        max_bytes: how many bytes may wait.
        render: how the writer's own event (``log_lines_dropped``) is put into a line.
        turns: shared with other processes that write to `fd`: lines that the kernel does not keep together then do
            not mix either.
    """

    def __init__(
        self,
        fd: int = 1,
        *,
        max_lines: int = 20_000,
        max_bytes: int = 8 * 2**20,
        render: Render = json_line,
        turns: Turns | None = None,
    ) -> None:
        self.dropped = 0
        """Lines lost since the start: the queue was full, or writing failed."""
        self._fd = fd
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._render = render
        self._room = _room(fd)
        self._torn = False
        self._turns = turns
        self._reset()
        _writers.add(self)
        atexit.register(self.close)

    def _reset(self) -> None:
        """Start without lines and thread; a forked child calls this too, as it has not the parent's thread and lock."""
        # Reentrant: a finalizer that the garbage collector runs inside `write` may log, too.
        self._lock = threading.RLock()
        self._lines: list[bytes] = []
        self._held_lines = 0
        self._held_bytes = 0
        self._untold = 0
        self._awake = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = 0.0
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Take one line without its newline."""
        size = len(line) + 1
        with self._lock:
            if (
                self._held_lines >= self._max_lines
                or self._held_bytes + size > self._max_bytes
                or self._closing.is_set()
            ):
                self._lose(1)
                return
            self._lines.append(line)
            self._held_lines += 1
            self._held_bytes += size
            if self._awake:
                return
            self._awake = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write the queued lines for at most `timeout` seconds, and drop later ones. Also runs at exit."""
        with self._lock:
            thread = self._thread
            self._deadline = time.monotonic() + timeout
            self._closing.set()
            self._wake.set()
        if thread is not None:
            thread.join(timeout + 2 * PATIENCE)
        atexit.unregister(self.close)

    def _lose(self, lines: int) -> None:
        self.dropped += lines
        self._untold += lines

    # The thread

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(LINGER)
            lines = self._take()
            if lines:
                self._put(lines)
            elif self._closing.is_set():
                return

    def _take(self) -> list[bytes]:
        with self._lock:
            lines, self._lines = self._lines, []
            if not lines:
                self._awake = False
                if not self._closing.is_set():
                    self._wake.clear()
            return lines

    def _put(self, lines: list[bytes]) -> None:
        done = 0
        try:
            for count, piece in _pieces(lines, self._room):
                self._put_piece(piece)
                done += count
        except OSError:
            pass  # the reader is gone, the disk is full, or time is up: what is lost is counted below
        with self._lock:
            self._lose(len(lines) - done)
            self._held_lines -= len(lines)
            self._held_bytes -= sum(map(len, lines)) + len(lines)
        if done == len(lines):
            with suppress(OSError):  # told the next time
                self._tell()

    def _tell(self) -> None:
        """Log the number of dropped lines, now that lines can be written again."""
        untold = self._untold
        if untold:
            event = {
                "time": stamp(time.time()),
                "level": "warning",
                "event": "log_lines_dropped",
                "schema": SCHEMA,
                **process_fields(),
                "logger": "ollama_proxy.writer",
                "lines": untold,
            }
            self._put_piece(self._render(event) + b"\n")
            with self._lock:
                self._untold -= untold

    def _put_piece(self, piece: bytes) -> None:
        """Write all of `piece`; raises OSError, TimeoutError when the writer is closing and its time is up."""
        if self._turns is None:
            self._put_whole(piece)
            return
        self._wait_until_writable()
        while not self._turns.take():
            if self._closing.wait(SHORTLY) and time.monotonic() > self._deadline:
                raise TimeoutError
        try:
            self._torn = self._torn or self._turns.torn
            self._turns.torn = len(piece) > self._room
            self._put_whole(piece)
            self._turns.torn = False
        finally:
            self._turns.give_back()

    def _put_whole(self, piece: bytes) -> None:
        rest = memoryview(b"\n" + piece if self._torn else piece)
        while rest:
            self._wait_until_writable()
            try:
                written = os.write(self._fd, rest[: self._room])
            except BlockingIOError:
                continue
            rest = rest[written:]
            # If the next write fails, half a line is out, and the next line must not be glued to it.
            self._torn = bool(rest)

    def _wait_until_writable(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while not poll.poll(PATIENCE * 1000):
            if self._closing.is_set() and time.monotonic() > self._deadline:
                raise TimeoutError

    def __repr__(self) -> str:
        state = "closed" if self._closing.is_set() else "open"
        return f"<Writer fd {self._fd} {state}, {self._held_lines} lines wait, {self.dropped} dropped>"


def _room(fd: int) -> int:
    """Return how many bytes to write at once: all where a write cannot block, else what a pipe takes in one piece."""
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        regular = False
    return 64 * 1024 if regular else select.PIPE_BUF


def _pieces(lines: list[bytes], room: int) -> Iterator[tuple[int, bytes]]:
    """Join whole lines into pieces of at most `room` bytes, with how many each holds; a longer line goes alone."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) + 1 > room:
            yield len(piece), b"\n".join(piece) + b"\n"
            piece, size = [], 0
        piece.append(line)
        size += len(line) + 1
    yield len(piece), b"\n".join(piece) + b"\n"


_writers: Final[weakref.WeakSet[Writer]] = weakref.WeakSet()


def _after_fork() -> None:
    for writer in _writers:
        writer._reset()


os.register_at_fork(after_in_child=_after_fork)
