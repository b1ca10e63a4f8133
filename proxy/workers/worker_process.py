"""One worker process, as its parent sees it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Final

from proxy.kernel.peers import Reply
from proxy.workers.channel import Channel, Hear

MODULE: Final = "proxy.worker"
"""The module that a worker runs."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that are held back from a worker until it handles them."""
_PARENTS_OWN: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class WorkerProcess:
    """A process and the channel to it.

    Attributes:
        number: of the worker, from 1.
        watching: whether it wants to hear what the others tell.
        watched: whether it was told that others do.
        asked: whether it has asked for what it is to serve, and so can answer questions after that.
        serving: set once it accepts connections.
        ready: set once it has asked every backend.
    """

    def __init__(self, number: int, process: "subprocess.Popen[bytes]", watch: int, channel: Channel) -> None:
        self.number = number
        self.watching = False
        self.watched = False
        self.asked = False
        self.serving = asyncio.Event()
        self.ready = asyncio.Event()
        self.channel = channel
        self._process = process
        self._watch = watch
        self._since = monotonic()

    @classmethod
    def start(
        cls, number: int, fds: Sequence[int], replies: Mapping[str, Reply], hears: Mapping[str, Hear]
    ) -> "WorkerProcess":
        """Start a process that inherits `fds`; what it asks and tells goes to `replies` and `hears`. Raises OSError.

        Signals are held back in between, so nothing may be awaited here.
        """
        ours, theirs = socket.socketpair()
        command = (sys.executable, "-P", "-m", MODULE, str(theirs.fileno()))
        held = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process = subprocess.Popen(  # noqa: S603  (this very Python, and a module of ours)
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), *fds), env=_environment()
            )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            theirs.close()
        try:
            watch = os.pidfd_open(process.pid)  # it is readable once the process has ended
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
        ours.setblocking(False)
        return cls(number, process, watch, Channel(ours, replies, hears))

    async def run(self, opened: Callable[[], None]) -> None:
        """Return once the process is gone.

        Args:
            opened: called once it can be told something.
        """
        talking = asyncio.create_task(self.channel.run(opened))
        try:
            await self._wait()
        finally:
            self.channel.close()
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _wait(self) -> None:
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._watch, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._watch)
            os.close(self._watch)
        self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    @property
    def pid(self) -> int:
        """Return the number that the system gave to it."""
        return self._process.pid

    @property
    def lived(self) -> float:
        """Return the seconds since it was started."""
        return monotonic() - self._since

    @property
    def end(self) -> str:
        """Return how it ended, for people."""
        code = self._process.returncode
        if code is None:
            return "it runs"
        if code < 0:
            return f"killed by {_name(-code)}"
        return f"it ended with code {code}"

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.number}, pid {self.pid}, {self.end}>"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """Return the parent's environment, but what systemd meant for the parent alone, and with its path of modules."""
    kept = {name: value for name, value in os.environ.items() if name not in _PARENTS_OWN}
    return {**kept, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
