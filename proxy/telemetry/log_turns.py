"""Turns at a log that several processes write to one pipe.

The kernel keeps together what is at most PIPE_BUF bytes long; a longer line goes out in parts, and another process
could write in between. So each takes its turn first, by a lock that the kernel gives back for a process that dies.
"""

import fcntl
import os
from typing import Final

_TORN: Final = b"\1"
_WHOLE: Final = b"\0"


class Turns:
    """The turns of one process, by a lock on `fd`, a file of one byte that all of them have open.

    The byte says whether the process that had the last turn has died within a line.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def take(self) -> bool:
        """Take the turn if nobody else has it; return whether that is so."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def give_back(self) -> None:
        """Let others have their turn."""
        fcntl.lockf(self._fd, fcntl.LOCK_UN)

    @property
    def torn(self) -> bool:
        """Whether a line was begun and not ended; for who has the turn."""
        return os.pread(self._fd, 1, 0) == _TORN

    @torn.setter
    def torn(self, torn: bool) -> None:
        os.pwrite(self._fd, _TORN if torn else _WHOLE, 0)

    def __repr__(self) -> str:
        return f"<Turns by fd {self._fd}>"


def make_turns() -> int:
    """Return an anonymous file for `Turns`; children may inherit it."""
    return os.memfd_create("ollama-proxy-log", os.MFD_CLOEXEC)
