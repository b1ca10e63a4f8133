"""One simulated host, a process of its own, which notes what it runs and what it says.

It writes its port on a line. When its standard input ends it writes one more line: how many requests it ran at which
time, who was running whenever these were more than `slots`, and each answer with its bytes.
"""

import sys
import time
from itertools import islice
from typing import Any, Final

import orjson
import uvloop

from bench.fleet.plan import TOKEN_DELAY
from bench.plan import MODEL
from bench.soak.part import say, told
from proxy.simulator import Ollama
from proxy.simulator.request import Request

PARALLEL: Final = 256
"""More than a proxy may send: that the bound holds is for the proxies to see to."""
KEPT: Final = 200_000


class NotingHost(Ollama):
    """A host that notes each change of the number of requests that it runs.

    Attributes:
        levels: (time, number) of each change, in seconds of the monotonic clock.
        excess: (time, who runs) for each change to a number above `slots`.
        spoke: when the first and the last byte of each answer went out, by the request's id.
    """

    def __init__(self, slots: int, **settings: Any) -> None:
        self.levels: list[tuple[float, int]] = [(time.monotonic(), 0)]
        self.excess: list[tuple[float, list[str]]] = []
        self.spoke: dict[int, list[float]] = {}
        self._slots = slots
        super().__init__(MODEL, **settings)

    def changed(self) -> None:
        """See `Host.changed`."""
        running = self.counters.generating
        if running != self.levels[-1][1]:
            now = time.monotonic()
            self.levels.append((now, running))
            if running > self._slots:
                recent = islice(reversed(self.requests), 20 * running)
                self.excess.append((now, [who(one) for one in recent if one.state == "open"]))
        super().changed()

    def sent(self, request: Request, data: bytes) -> None:
        """See `Host.sent`."""
        now = time.monotonic()
        self.spoke.setdefault(request.id, [now, now])[1] = now
        super().sent(request, data)

    def notes(self) -> dict[str, Any]:
        """Return all that was noted, as plain data; the bytes of an answer as a text of as many characters."""
        answers = [
            {
                "who": who(request),
                "began": self.spoke[request.id][0] - TOKEN_DELAY,
                "ended": self.spoke[request.id][1],
                "whole": request.state == "done",
                "said": b"".join(request.sent).decode("latin-1"),
            }
            for request in self.requests
            if request.id in self.spoke and request.method == "POST"
        ]
        return {"levels": self.levels, "excess": self.excess, "answers": answers}


def who(request: Request) -> str:
    """Return what the client calls the request, which is its prompt; nothing of one that is no chat."""
    try:
        return str(orjson.loads(request.body)["messages"][0]["content"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""


async def serve(slots: int, seed: int) -> None:
    """Run until the standard input ends."""
    async with NotingHost(slots, seed=seed, token_delay=TOKEN_DELAY, num_parallel=PARALLEL, record=KEPT) as host:
        say(host.port)
        async for _ in told():
            pass
        say(host.notes())


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
