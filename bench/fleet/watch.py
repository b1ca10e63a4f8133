"""Look at the permits in Redis, again and again, while the storm passes: who holds some, and who is alive."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError

from bench.fleet.redis_pair import Pair
from proxy.fleet.server import PREFIX

EVERY: Final = 0.5


@dataclass(slots=True)
class Look:
    """What Redis said at a moment.

    Attributes:
        at: when, in seconds of the monotonic clock.
        alive: seconds from then until the permits of each proxy expire; below 0 they have.
        held: permits of each proxy, over all hosts; proxies that hold none are not in it.
    """

    at: float
    alive: dict[str, float] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


def look(pair: Pair) -> Look:
    """Look once; raises RedisError."""
    client: Any = pair.primary().client
    seconds, micros = client.time()
    found = Look(time.monotonic())
    for proxy, score in client.zrange(f"{PREFIX}:alive", 0, -1, withscores=True):
        found.alive[proxy.decode()] = score - seconds - micros / 1e6
    for key in client.keys(f"{PREFIX}:held:*"):
        for proxy, text in client.hgetall(key).items():
            if permits := int(text.split()[0]):
                found.held[proxy.decode()] = found.held.get(proxy.decode(), 0) + permits
    return found


class Watch:
    """Looks from `start` to `stop`, in a thread of its own."""

    def __init__(self, pair: Pair) -> None:
        self.looks: list[Look] = []
        self._pair = pair
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the last look is done."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            with suppress(RedisError):
                self.looks.append(look(self._pair))


def late_permits(looks: list[Look], least: float) -> list[tuple[float, float, str, int]]:
    """Return (when, seconds after the expiry, proxy, permits) of what was seen in Redis at least so late.

    A server that no proxy calls does not count: nobody takes the permits out of it, and nobody goes by them.
    """
    alive_until: dict[str, float] = {}
    found = []
    for one in looks:
        for proxy, left in one.alive.items():
            alive_until[proxy] = one.at + left
        if all(left <= 0 for left in one.alive.values()):
            continue
        for proxy, permits in one.held.items():
            late = one.at - alive_until.get(proxy, one.at)
            if late >= least:
                found.append((one.at, late, proxy, permits))
    return found
