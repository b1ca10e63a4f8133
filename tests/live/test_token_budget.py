"""One token budget, two whole proxies, one Redis: clients read on, leave, are cut off, and not a token goes astray.

Both proxies are processes of their own, as an operator starts them, in front of one good and one bad backend.
"""

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.quotas import Quota, Window
from proxy.kernel.routes import Match, RouteTable
from proxy.kernel.token_estimate import Estimate, expect
from proxy.kernel.units import Rate
from proxy.services.system_clock import SystemClock
from proxy.simulator import Ollama
from proxy.stores.redis import RedisStore
from tests.support.process import Process
from tests.support.redis import redis_server
from tests.support.wire import Client, request

BUDGET: Final = 20_000
LENGTHS: Final = (100, 199)
"""Tokens of an answer; all of three digits, so that all prompts are estimated alike."""
CALLERS: Final = 12
"""Of each proxy, all of them one identity."""
LIMIT: Final = {"tokens": f"{BUDGET}/24h", "streams": 2 * CALLERS, "on_store_failure": "closed"}
"""Closed, as otherwise a machine that is too slow for Redis would let requests through uncounted."""
ME: Final = Quota(
    "rate_limit/default/identity=@127.0.0.1", tokens=(Window(Rate.parse(f"{BUDGET}/24h")),), streams=2 * CALLERS
)


def chat(tokens: int) -> dict[str, Any]:
    return {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": tokens}}


def reserved(body: dict[str, Any]) -> tuple[int, int]:
    """The tokens that a request reserves for its prompt and altogether."""
    match = RouteTable().match("POST", "/api/chat")
    assert isinstance(match, Match)
    return expect(match.route, body, PromptSize(len(json.dumps(body))), Estimate())


async def use_up(proxy: Process, choice: random.Random) -> None:
    """Chat, and leave now and then, until the budget is spent."""
    while True:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", chat(choice.randint(*LENGTHS))))
        patience = choice.choice([None, None, 0, 1, 5, 30])
        with suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):  # ours, and those of streams cut off
            if patience == 0:
                async with asyncio.timeout(choice.uniform(0, 0.01)):
                    await client.reader.read(1)
            elif (await client.read_head()).status == 429:
                if b"try again in" in await client.reader.readuntil(b"}"):  # not only reserved: spent
                    await client.close()
                    return
            else:
                for _ in range(patience or 2 * LENGTHS[1]):
                    if not await client.read_chunk():
                        break
        client.hang_up(reset=choice.random() < 0.5)


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_proxies_spend_one_budget_to_the_token(tmp_path: Path, seed: int) -> None:
    choice = random.Random(seed)
    with redis_server() as redis:
        async with (
            Ollama("llama3.2", num_parallel=64, token_delay=0.0005) as good,
            Ollama("llama3.2", num_parallel=64, token_delay=0.0005) as bad,
        ):
            bad.fault("reset", route="/api/chat", after=3, times=None, when=lambda _: choice.random() < 0.5)
            settings = {
                "listen": "127.0.0.1:0",
                "backends": [{"name": "good", "url": good.url}, {"name": "bad", "url": bad.url}],
                "store": redis.url,
                "middleware": ["logging", {"rate_limit": LIMIT}, "retry"],
            }
            watcher = RedisStore(redis.url, SystemClock(), within=5)
            async with (
                Process.started(tmp_path / "1", settings) as one,
                Process.started(tmp_path / "2", settings) as two,
            ):
                load = asyncio.gather(*(use_up(proxy, choice) for proxy in (one, two) for _ in range(CALLERS)))
                most = 0
                while not load.done():
                    _, tokens = await watcher.look([ME])
                    most = max(most, tokens.used)
                    await asyncio.wait([load], timeout=0.002)
                await load
                await use_up(one, choice)  # what was only reserved when the others left
                lines = [*await one.stop(), *await two.stop()]
            running, spent = await watcher.look([ME])
            await watcher.aclose()
    assert running.used == 0
    outcomes = Counter(line["outcome"] for line in lines)
    assert min(outcomes[outcome] for outcome in ("completed", "client_gone", "upstream_truncated", "refused")) > 0

    prompt, largest = reserved(chat(LENGTHS[1]))
    charged = [line for line in lines if line["tokens_source"] is not None]
    estimated = [line for line in charged if line["tokens_source"] == "estimated"]
    assert {line["tokens_in"] for line in estimated} == {prompt}
    assert spent.used == sum(line["tokens_in"] + line["tokens_out"] for line in charged)
    assert BUDGET <= spent.used < BUDGET + 2 * largest
    assert most < BUDGET + 2 * largest  # one reservation of each process
