"""What a proxy says and does before every host was asked for its models once."""

import asyncio
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from config.load import load_bytes
from proxy.simulator import Fault, Ollama
from tests.support.backend import eventually
from tests.support.process import free_port
from tests.support.proxy import Running, running
from tests.support.wire import Reply, ask

CHAINS: Final[dict[str, list[Any]]] = {
    "alone": ["logging"],
    "queue": ["logging", "queue"],
    "all": ["logging", "queue", "retry"],
}
POOL: Final = {"health": {"every": "1m", "timeout": "5s"}}


def hosts(*sims: Ollama) -> list[dict[str, Any]]:
    return [{"name": f"b{number}", "url": sim.url, "slots": 8} for number, sim in enumerate(sims, 1)]


def slow(sim: Ollama) -> Fault:
    """Hold back the first list of models until the test releases it."""
    return sim.fault("stall", route="/api/tags")


def asking(proxy: Running, method: str, path: str, body: dict[str, Any] | None = None) -> asyncio.Task[Reply]:
    return asyncio.create_task(ask(proxy.address, method, path, body))


def chat_with(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]}


async def one_is_known(proxy: Running) -> None:
    await eventually(lambda: proxy.app.pool.backends[0].seen_at is not None)


async def arrived(proxy: Running, number: int = 1) -> None:
    await eventually(lambda: len(proxy.app.frame.live) == number)


async def test_it_is_ready_once_every_host_was_asked() -> None:
    async with Ollama("llama3.2") as one, Ollama("qwen3") as two:
        held = slow(two)
        async with running(*hosts(one, two), watched=True, pool=POOL) as proxy:
            await one_is_known(proxy)
            reply = await ask(proxy.address, "GET", "/-/readyz")
            assert reply.status == 503
            assert b"not every backend has been asked yet" in reply.body
            held.release()
            await eventually(lambda: proxy.app.pool.first_round.over)
            assert (await ask(proxy.address, "GET", "/-/readyz")).status == 200


async def test_a_host_that_never_answers_is_given_up_on() -> None:
    async with Ollama("llama3.2") as one, Ollama("qwen3") as two:
        two.fault("stall", times=None)
        async with running(*hosts(one, two), watched=True, pool={"health": {"timeout": "200ms"}}) as proxy:
            assert {entry["name"] for entry in await names(proxy)} == {"llama3.2:latest"}
            assert (await ask(proxy.address, "GET", "/-/readyz")).status == 200
            two.clear()


async def names(proxy: Running) -> Any:
    return orjson.loads((await ask(proxy.address, "GET", "/api/tags")).body)["models"]


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/api/show"])
async def test_a_first_request_for_the_model_of_a_slow_host_waits(chain: list[Any], path: str) -> None:
    async with Ollama("llama3.2") as one, Ollama("qwen3") as two:
        held = slow(two)
        async with running(*hosts(one, two), watched=True, middleware=chain, pool=POOL) as proxy:
            await one_is_known(proxy)
            reply = asking(proxy, "POST", path, chat_with("qwen3"))
            await arrived(proxy)
            held.release()
            assert (await reply).status == 200
            assert (await proxy.log.request())["attempts"] == 1


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
async def test_first_requests_find_their_model_while_no_host_is_known(chain: list[Any]) -> None:
    async with Ollama("llama3.2") as one, Ollama("qwen3") as two:
        held = [slow(one), slow(two)]
        async with running(*hosts(one, two), watched=True, middleware=chain, pool=POOL) as proxy:
            replies = [asking(proxy, "POST", "/api/chat", chat_with("qwen3")) for _ in range(8)]
            await arrived(proxy, 8)
            for fault in held:
                fault.release()
            assert {reply.status for reply in await asyncio.gather(*replies)} == {200}
            assert not one.seen("/api/chat")


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
async def test_a_request_for_a_model_that_is_known_does_not_wait(chain: list[Any]) -> None:
    async with Ollama("llama3.2") as one, Ollama("qwen3") as two:
        held = slow(two)
        async with running(*hosts(one, two), watched=True, middleware=chain, pool=POOL) as proxy:
            await one_is_known(proxy)
            assert (await ask(proxy.address, "POST", "/api/chat", chat_with("llama3.2"))).status == 200
            assert proxy.app.pool.first_round.pending
            held.release()


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models", "/api/ps", "/api/version", "/v1/models/qwen3"])
async def test_the_lists_wait_for_all_hosts(path: str) -> None:
    async with Ollama("llama3.2", version="0.33.0") as one, Ollama("qwen3", version="0.32.0") as two:
        held = slow(two)
        async with running(*hosts(one, two), watched=True, pool=POOL) as proxy:
            await one_is_known(proxy)
            reply = asking(proxy, "GET", path)
            await arrived(proxy)
            held.release()
            found = await reply
            assert found.status == 200
            if path != "/api/ps":
                assert b"qwen3" in found.body or b"0.32.0" in found.body


async def test_what_is_about_no_model_does_not_wait() -> None:
    async with Ollama("llama3.2") as one, Ollama("qwen3") as two:
        held = slow(two)
        async with running(*hosts(one, two), watched=True, pool=POOL) as proxy:
            for path in ("/", "/-/healthz", "/-/backends/b1/api/tags"):
                assert (await ask(proxy.address, "GET", path)).status == 200
            assert proxy.app.pool.first_round.pending
            held.release()


async def test_a_host_that_a_reload_adds_is_asked_first_and_the_proxy_stays_ready() -> None:
    async with Ollama("llama3.2") as one, Ollama("llama3.2") as two, Ollama("qwen3") as new:
        async with running(*hosts(one, two), watched=True, pool=POOL) as proxy:
            await eventually(lambda: proxy.app.pool.first_round.over)
            held = slow(new)
            reload_with(proxy, hosts(one, two, new))
            assert proxy.app.pool.first_round.pending
            assert (await ask(proxy.address, "GET", "/-/readyz")).status == 200
            reply, lists = asking(proxy, "POST", "/api/chat", chat_with("qwen3")), asking(proxy, "GET", "/api/tags")
            await arrived(proxy, 2)
            held.release()
            assert (await reply).status == 200
            assert b"qwen3" in (await lists).body


async def test_a_host_that_a_reload_takes_away_is_not_waited_for() -> None:
    async with Ollama("llama3.2") as one, Ollama("llama3.2") as two, Ollama("qwen3") as slow_one:
        held = slow(slow_one)
        async with running(*hosts(one, two, slow_one), watched=True, pool=POOL) as proxy:
            lists = asking(proxy, "GET", "/api/tags")
            await arrived(proxy)
            reload_with(proxy, hosts(one, two))
            assert b"llama3.2" in (await lists).body
            assert proxy.app.pool.first_round.over
            held.release()


def reload_with(proxy: Running, backends: list[dict[str, Any]]) -> None:
    """Put the same policy file in force with other backends."""
    tree = orjson.dumps({"backends": backends, "middleware": ["logging", "retry"], "pool": POOL})
    proxy.app.reload(load_bytes(tree, file="proxy.yaml", folder=Path.cwd()))


async def test_a_host_that_never_answered_is_not_waited_for_as_one_that_went_away() -> None:
    async with Ollama() as sim:
        nobody = {"name": "b2", "url": f"http://127.0.0.1:{free_port()}"}
        retries: list[Any] = ["logging", {"retry": {"patience": "1h"}}]
        async with running({"name": "b1", "url": sim.url}, nobody, watched=True, middleware=retries) as proxy:
            reply = await ask(proxy.address, "POST", "/api/chat", {"model": "nobody-has-this", "messages": []})
            assert reply.status == 502
