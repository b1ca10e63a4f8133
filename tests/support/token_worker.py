"""One proxy process of the token budget's property test: ``python -m tests.support.token_worker URL SEED``.

Says ``ready`` and waits for a line; then runs random streams against a limit until the budget is spent, and prints
what they really used.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from typing import Final

from middleware.rate_limit.plugin import RateLimit
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.attempts import Usage
from proxy.kernel.errors import ConnectFailed, Outcome
from proxy.kernel.exchange import Exchange
from proxy.kernel.token_estimate import Estimate
from proxy.services.system_clock import SystemClock
from proxy.stores.redis import RedisStore
from proxy.testing import call, ok, suppose
from tests.support.limits import caller, rates

AMOUNT: Final = 60_000
CALLER: Final = "the team"
OUTPUT: Final = 300
LARGEST: Final = OUTPUT + 40
"""No request of this test reserves or uses more."""
AT_ONCE: Final = 20
OUTCOMES: Final[tuple[Outcome, ...]] = ("completed", "completed", "client_gone", "upstream_failed")


def limiter(app: ASGIApp, store: RedisStore) -> RateLimit:
    return RateLimit(app, store=store, tokens=rates(f"{AMOUNT}/24h"), estimate=Estimate(max=LARGEST))


class Streams:
    """The inner app: streams that end well, break off, lose their reader, or never begin."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tokens = 0
        self.outcomes: Counter[Outcome] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        document = await exchange.json()
        await asyncio.sleep(self.random.uniform(0, 0.01))
        outcome = self.random.choice(OUTCOMES)
        self.outcomes[outcome] += 1
        if outcome == "upstream_failed":
            raise ConnectFailed("the backend is down")
        await ok(scope, receive, send)
        tokens = self.random.randint(0, document["options"]["num_predict"])
        if outcome == "completed":
            suppose(exchange, usage=Usage(20, tokens))
            self.tokens += 20 + tokens
        else:
            suppose(exchange, usage=Usage(None, tokens, "estimated"))
            self.tokens += len(await exchange.body()) // 4 + tokens


async def run(url: str, seed: int) -> dict[str, object]:
    store = RedisStore(url, SystemClock(), within=5)
    streams = Streams(seed)
    plugin = limiter(streams, store)
    refused = 0

    async def caller_of_many() -> None:
        nonlocal refused
        while True:
            document = {"model": "m", "messages": [], "options": {"num_predict": streams.random.randint(1, OUTPUT)}}
            answer = await call(plugin, caller(CALLER, document=document))
            if answer.error is not None and answer.error.status == 429:
                refused += 1
                if "try again when" not in answer.error.message:  # not just reserved: spent
                    return

    await asyncio.gather(*(caller_of_many() for _ in range(AT_ONCE)))
    await store.aclose()
    return {"tokens": streams.tokens, "refused": refused, "outcomes": streams.outcomes}


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()  # so that all begin at once
    print(json.dumps(asyncio.run(run(sys.argv[1], int(sys.argv[2])))))
