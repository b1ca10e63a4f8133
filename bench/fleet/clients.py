"""The clients, in a process of their own: each asks, reads, and asks again; then all look for what was deferred.

One argument, as JSON: the ports of the proxies, the keys by tenant, the plan, when it begins, and how long after it
deferred requests may take. It writes one line of JSON in the end: the requests as they were seen, and what became of
the deferred ones.
"""

import asyncio
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import uvloop

from bench.fleet.calls import AGAIN, PATHS, Caller, Seen, Way
from bench.fleet.plan import CYCLE, FEW, LULL, METERED, TOKENS, Plan
from bench.soak.part import say
from bench.soak.wire import Broken

WAYS: Final[Mapping[Way, int]] = {"plain": 70, "resumed": 24, "deferred": 6}
FOLLOWED: Final = 0.3
"""Share of the deferred requests whose answer is read while they run."""
THINKING: Final = 0.2
AT_ONCE: Final = 24
OVER: Final = ("completed", "failed", "cancelled", "expired", "dead")


@dataclass(slots=True)
class Deferred:
    """A request that was answered 202, and what was found of it.

    Attributes:
        state: of its entry in the end; ``lost`` where nobody knows it.
        error: what the entry says of a failure.
        seen: the reading of its answer afterwards, which `followed` is while it ran.
    """

    who: str
    state: str
    error: str
    seen: Seen
    followed: Seen | None


class Client:
    """One client."""

    def __init__(self, number: int, tenant: str, ports: Sequence[int], key: str, plan: Plan) -> None:
        self.tenant = tenant
        self.seen: list[Seen] = []
        self.followed: dict[str, Seen] = {}
        self.rng = random.Random(plan.seed * 10_000 + number)
        self.caller = Caller(ports, key, self.rng)
        self._number = number
        self._plan = plan
        self._following: list[asyncio.Task[None]] = []

    async def work(self, began: float) -> None:
        """Ask again and again, until the plan is over."""
        until = began + self._plan.seconds
        await asyncio.sleep(self.rng.random())
        while (now := time.monotonic()) < until:
            if not self._asks(now - began):
                await asyncio.sleep(AGAIN)
                continue
            way: Way = "plain" if self.tenant == METERED else self.rng.choices(tuple(WAYS), tuple(WAYS.values()))[0]
            seen = Seen(f"{self.tenant} {self._number} {len(self.seen)}", self.tenant, self.rng.choice(PATHS), way)
            self.seen.append(seen)
            await self.caller.call(seen, self.rng.randint(*TOKENS), until)
            if seen.end == "accepted" and self.rng.random() < FOLLOWED:
                other = self.followed[seen.who] = Seen(seen.who, self.tenant, seen.path, "deferred", place=seen.place)
                breaks = [self.rng.randrange(1, 900)]
                self._following.append(asyncio.create_task(self.caller.follow(other, breaks)))
            pause = min(1.0, seen.more.get("retry_after", 0.0)) if seen.end == "refused" else 0.0
            await asyncio.sleep(pause + self.rng.uniform(0, THINKING))
        await asyncio.gather(*self._following)

    def _asks(self, since: float) -> bool:
        """Return whether this client asks now: in a lull few do."""
        lull = since % CYCLE > CYCLE - LULL
        return not lull or self._number % round(1 / FEW) == 0

    async def result(self, seen: Seen, until: float) -> Deferred:
        """Return what became of a deferred request of this client."""
        state, error = "lost", ""
        while time.monotonic() < until:
            try:
                status, text = await self.caller.get(seen.place)
            except (Broken, OSError):
                await asyncio.sleep(AGAIN)
                continue
            if status == 404:
                break
            if status == 200:
                said = orjson.loads(text)
                state, error = said["state"], orjson.dumps(said.get("error")).decode()
                if state in OVER:
                    break
            await asyncio.sleep(AGAIN)
        read = Seen(seen.who, self.tenant, seen.path, "deferred", place=seen.place)
        if state in ("completed", "failed"):
            await self.caller.follow(read, [])
        return Deferred(seen.who, state, error, read, self.followed.get(seen.who))


async def results(clients: Sequence[Client], within: float) -> list[Deferred]:
    """Return what became of all deferred requests, which may take so many seconds in all."""
    until = time.monotonic() + within
    places = asyncio.Semaphore(AT_ONCE)

    async def one(client: Client, seen: Seen) -> Deferred:
        async with places:
            return await client.result(seen, until)

    accepted = [(client, seen) for client in clients for seen in client.seen if seen.end == "accepted"]
    return list(await asyncio.gather(*(one(client, seen) for client, seen in accepted)))


async def serve(ports: Sequence[int], keys: Mapping[str, str], plan: Plan, within: float, began: float) -> None:
    """Be all the clients of one storm, then write what was seen."""
    clients = [Client(number, t, ports, keys[t], plan) for number, t in enumerate(plan.tenants())]
    await asyncio.sleep(max(0.0, began - time.monotonic()))
    await asyncio.gather(*(client.work(began) for client in clients))
    asked_until = time.monotonic()
    found = await results(clients, within)
    seen = [one for client in clients for one in client.seen]
    say({"seen": seen, "deferred": found, "began": began, "asked_until": asked_until})


if __name__ == "__main__":
    given: dict[str, Any] = orjson.loads(sys.argv[1])
    uvloop.run(serve(given["ports"], given["keys"], Plan(**given["plan"]), given["within"], given["begins"]))
