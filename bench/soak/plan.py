"""What a soak does and how long each part of it takes."""

from dataclasses import dataclass
from typing import Final

HOST: Final = "127.0.0.1"
CHAT: Final = ("llama3.2", "qwen3")
EMBED: Final = "nomic-embed-text"
IDLE_EXPIRY: Final = 30.0
"""Seconds that the proxy keeps an unused connection to a host: quiet is when those are closed, too."""
QUIET: Final = IDLE_EXPIRY + 5.0
SAMPLE_EVERY: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One soak.

    Attributes:
        minutes: from the first request to the last measurement.
        streams: clients that each have one request under way.
        seed: decides what clients and failing hosts do, as far as time does not.
        tolerance: the share by which memory may be more at the end than at the beginning.
    """

    minutes: float
    streams: int = 120
    seed: int = 1
    tolerance: float = 0.05

    @property
    def warm_up(self) -> float:
        """Seconds until the first measurement: caches are full by then, and the allocator has what it needs."""
        return max(20.0, self.minutes * 60 * 0.35)

    @property
    def main(self) -> float:
        """Seconds between the two measurements."""
        return max(20.0, self.minutes * 60 - self.warm_up - 2 * QUIET)
