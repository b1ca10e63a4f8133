"""What is measured, as data."""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["stream", "first", "short", "memory"]

HOST: Final = "127.0.0.1"
MODEL: Final = "bench:latest"
MARK: Final = b'"sent_at":"'
"""Stands before the time of sending in each chunk: CLOCK_MONOTONIC in nanoseconds, 19 digits."""
DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of load.

    Attributes:
        kind: "stream": streams that stay open, for the cost and delay of a chunk. "first": short streams one after the
            other, for the time to the first token. "short": answers in one piece. "memory": many quiet streams.
        connections: kept-alive client connections, at most one request on each at a time.
        per_second: chunks on each stream per second ("stream", "memory"), or requests in all per second (the others).
        seconds: how long is measured, after everything runs.
        ramp: seconds in which the streams that stay open are begun.
        settle: seconds before the measurement, and after it, in which all goes on as in it.
    """

    kind: Kind
    connections: int
    per_second: float
    seconds: float
    ramp: float = 1.0
    settle: float = 0.5

    @property
    def holds(self) -> bool:
        """Whether its streams stay open, rather than follow one another."""
        return self.kind in ("stream", "memory")

    @property
    def name(self) -> str:
        """How results call it."""
        return f"{self.kind}-{self.connections}" if self.kind == "memory" else self.kind


# On one core of the machine this was written on, nginx needs some 10 µs per chunk and 20 µs per short request, and the
# proxy twice and seven times that: these rates keep it at a quarter to a half of a core, where no queue builds up.
STREAM: Final = Profile("stream", connections=200, per_second=50, seconds=4)
FIRST: Final = Profile("first", connections=100, per_second=300, seconds=3)
SHORT: Final = Profile("short", connections=50, per_second=1000, seconds=3)
MEMORY: Final = (
    Profile("memory", connections=1000, per_second=1, seconds=2),
    Profile("memory", connections=5000, per_second=0.2, seconds=2, ramp=5),
)
