"""Numbers that several processes share: each writes its own row, and reads the sum of all.

One bound on all of them then holds exactly, without a lock: who adds to its own row first, and looks at the sum after
that, never goes beyond it. (Two that do so at the same moment may both find that there is no room for the last one.)
"""

import mmap
import os
from typing import Final

WIDTH: Final = 8
"""Bytes of a number."""
ABSENT: Final = -1
"""The value of the first number in the row of a process that is not there."""


class SharedNumbers:
    """A table of whole numbers in memory, with a row for each process.

    Args:
        fd: a file that `make_shared` made; it may be closed afterwards.
        rows: the number of processes.
        columns: the numbers of one process.
        row: the row of this process.
    """

    def __init__(self, fd: int, *, rows: int, columns: int, row: int) -> None:
        self._rows = rows
        self._columns = columns
        self._row = row
        self._own = row * columns
        self._numbers = memoryview(mmap.mmap(fd, rows * columns * WIDTH)).cast("q")

    def write(self, column: int, value: int) -> None:
        """Set a number of this process."""
        self._numbers[self._own + column] = value

    def add(self, column: int, change: int) -> None:
        """Change a number of this process."""
        self._numbers[self._own + column] += change

    def elsewhere(self, column: int) -> int:
        """Return the sum of a number over all other processes."""
        return sum(value for value in self.others(column) if value > 0)

    def others(self, column: int) -> list[int]:
        """Return the number of each other process, `ABSENT` where it is not there."""
        values = self._numbers[column :: self._columns].tolist()
        del values[self._row]
        return values

    def clear(self, row: int) -> None:
        """Forget the numbers of a process that is gone."""
        start = row * self._columns
        self._numbers[start : start + self._columns] = memoryview(bytes(self._columns * WIDTH)).cast("q")
        self._numbers[start] = ABSENT

    def __repr__(self) -> str:
        return f"<SharedNumbers row {self._row} of {self._rows}>"


def make_shared(rows: int, columns: int) -> int:
    """Return an anonymous file for `SharedNumbers` in which no process is there yet; children may inherit it."""
    fd = os.memfd_create("ollama-proxy", os.MFD_CLOEXEC)
    os.ftruncate(fd, rows * columns * WIDTH)
    numbers = SharedNumbers(fd, rows=rows, columns=columns, row=0)
    for row in range(rows):
        numbers.clear(row)
    return fd
