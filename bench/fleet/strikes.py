"""Strike proxies and Redis as scheduled, and note when the fleet was not well."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.bursts.cast import Proxy
from bench.fleet.redis_pair import Pair
from bench.fleet.schedule import WELL, Strike

CALM: Final = "calm"


@dataclass(slots=True)
class Window:
    """When a strike may have had its effect: from its moment to `WELL` seconds after all processes were there again."""

    kind: str
    began: float
    ended: float

    def covers(self, at: float) -> bool:
        """Return whether `at` is in it."""
        return self.began <= at <= self.ended


class Striker:
    """Strikes one after the other, in a thread of its own, which ends with the schedule or at a failure."""

    def __init__(
        self, strikes: Sequence[Strike], proxies: Sequence[Proxy], pair: Pair, say: Callable[[str], None]
    ) -> None:
        self.windows: list[Window] = []
        self.failure: Exception | None = None
        self._strikes = strikes
        self._proxies = proxies
        self._pair = pair
        self._say = say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self, began: float) -> None:
        """Begin; the schedule counts from `began`, in seconds of the monotonic clock."""
        self._began = began
        self._thread.start()

    def stop(self) -> None:
        """Strike no more; returns when the last strike is over."""
        self._over.set()
        self._thread.join()

    def wait(self) -> None:
        """Return when all strikes are over."""
        self._thread.join()

    def _run(self) -> None:
        for strike in self._strikes:
            if self._over.wait(max(0.0, self._began + strike.at - time.monotonic())):
                return
            try:
                self._pair.until_replicated()
                window = Window(strike.kind, time.monotonic(), float("inf"))
                self.windows.append(window)
                self._strike(strike)
            except Exception as error:  # the main thread says so
                self.failure = error
                return
            healed = time.monotonic()
            window.ended = healed + WELL
            self._say(f"  {window.began - self._began:6.1f} s  {strike.kind}, {healed - window.began:.1f} s")

    def _strike(self, strike: Strike) -> None:
        primary = self._pair.primary()
        match strike.kind:
            case "kill":
                proxy = self._proxies[strike.proxy]
                proxy.kill()
                time.sleep(strike.lasts)
                proxy.start()
            case "restart":
                primary.kill()
                time.sleep(strike.lasts)
                primary.start()
                self._pair.until_writable()
            case "freeze":
                primary.freeze()
                time.sleep(strike.lasts)
                primary.thaw()
                self._pair.until_writable()
            case "failover":
                self._pair.fail_over()
                self._pair.until_replicated()  # until then the old primary takes itself for one
            case "crash":
                primary.kill()
                self._pair.until_moved(primary)
                time.sleep(strike.lasts)
                primary.start()
            case "hang":
                primary.freeze()
                self._pair.until_moved(primary)
                time.sleep(strike.lasts)
                primary.thaw()
                self._pair.until_replicated()  # as above


def name_of(at: float, windows: Sequence[Window]) -> str:
    """Return the kinds of the strikes that may have had their effect at that moment."""
    return " + ".join(window.kind for window in windows if window.covers(at)) or CALM
