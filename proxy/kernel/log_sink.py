"""The contract of the place where log lines go."""

from typing import Protocol


class LogSink(Protocol):
    """Takes finished log lines and never blocks. It drops the lines it has no room for, and counts them."""

    dropped: int = 0
    """Lines lost since the start."""

    def write(self, line: bytes) -> None:
        """Take one line without its newline."""
