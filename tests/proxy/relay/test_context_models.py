"""proxy/relay/context_models.py: requests that cannot say `num_ctx` go to a model that has it."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.relay.context_models import ContextModels
from proxy.simulator import Ollama
from proxy.testing import make_exchange
from tests.support.backend import eventually
from tests.support.proxy import running
from tests.support.wire import ask

MODEL = "llama3.2"
NAME = "llama3.2:latest-ctx32k-by-proxy"
MESSAGES = [{"role": "user", "content": "hi"}]
V1: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": MODEL, "messages": MESSAGES},
    "/v1/completions": {"model": MODEL, "prompt": "hi"},
    "/v1/responses": {"model": MODEL, "input": "hi"},
    "/v1/messages": {"model": MODEL, "messages": MESSAGES, "max_tokens": 5},
    "/v1/embeddings": {"model": MODEL, "input": "hi"},
}
CHAT = "/v1/chat/completions"
TO_B1 = {"X-Ollama-Backend": "b1"}


def chain(**rule: Any) -> list[object]:
    return ["logging", {"parameters": {"num_ctx": rule or {"set": 32768, "v1": "derive"}}}, "retry"]


def models_of(sim: Ollama, path: str) -> list[str]:
    return [orjson.loads(seen.body)["model"] for seen in sim.seen(path)]


@pytest.mark.parametrize("path", V1)
async def test_it_is_made_once_and_then_used(path: str) -> None:
    async with Ollama(chat_embeds=True) as sim, running(sim.url, middleware=chain()) as proxy:
        for _ in range(3):
            reply = await ask(proxy.address, "POST", path, V1[path])
            assert (reply.status, reply.clean) == (200, True)
        (made,) = sim.seen("/api/create")
        wanted = {"model": NAME, "parameters": {"num_ctx": 32768}, "stream": False}
        found = orjson.loads(made.body)
        assert found.pop("from").endswith("library/llama3.2:latest")
        assert found == wanted
        assert models_of(sim, path) == [NAME] * 3
        line = await proxy.log.request()
        assert (line["model"], line["reason"]) == ("llama3.2:latest", f"only; as {NAME}")
        assert [event["model"] for event in proxy.log.events if event["event"] == "context_model_made"] == [NAME]


async def test_every_other_byte_of_the_body_stays() -> None:
    body = b'{ "messages" : [{"role":"user","content":"\\u0068i"}],"model": "llama3.2" , "n":1e0}'
    async with Ollama() as sim, running(sim.url, middleware=chain()) as proxy:
        assert (await ask(proxy.address, "POST", CHAT, body)).status == 200
        assert sim.last.body == body.replace(b'"llama3.2"', orjson.dumps(NAME))


async def test_who_can_say_it_says_it_and_shares_the_context() -> None:
    async with Ollama() as sim, running(sim.url, middleware=chain()) as proxy:
        body = {"model": MODEL, "messages": MESSAGES}
        assert (await ask(proxy.address, "POST", "/api/chat", body)).clean
        assert orjson.loads(sim.last.body)["options"] == {"num_ctx": 32768}
        assert models_of(sim, "/api/chat") == [MODEL]
        assert not sim.seen("/api/create")
        key = "registry.ollama.ai/library/llama3.2:latest"
        (host,) = proxy.app.pool.backends
        assert host.residency.state(key, (("num_ctx", 32768),)) == "loaded"
        assert (await ask(proxy.address, "POST", CHAT, body)).clean
        assert list(host.resident) == [key]  # for the pool both are one model in memory


async def test_a_burst_makes_it_once() -> None:
    async with Ollama() as sim, running(sim.url, middleware=chain()) as proxy:
        held = sim.fault("stall", route="/api/create")
        asked = [asyncio.create_task(ask(proxy.address, "POST", CHAT, V1[CHAT])) for _ in range(5)]
        await sim.wait_for(lambda: held.hits == 1)
        await eventually(lambda: proxy.app.pool.backends[0].leases == 5)
        asked[0].cancel()  # whoever asked first may leave
        held.release()
        replies = await asyncio.gather(*asked[1:])
        assert all(reply.clean for reply in replies)
        assert len(sim.seen("/api/create")) == 1


async def test_a_request_moves_from_a_host_that_goes_silent_while_it_is_made() -> None:
    pool = {"health": {"every": "250ms", "timeout": "200ms", "down_after": 2}}
    async with (
        Ollama() as one,
        Ollama() as two,
        running(one.url, two.url, middleware=chain(), watched=True, pool=pool) as proxy,
    ):
        await eventually(lambda: all(backend.seen_at is not None for backend in proxy.app.pool.backends))
        for sim in (one, two):
            sim.fault("stall", route="/api/create")
        asked = asyncio.create_task(ask(proxy.address, "POST", CHAT, V1[CHAT]))
        await eventually(lambda: bool(one.seen("/api/create") or two.seen("/api/create")))
        silent, other = (one, two) if one.seen("/api/create") else (two, one)
        silent.fault("stall", times=None)
        other.clear()
        assert (await asked).clean
        assert models_of(other, CHAT) == [NAME]
        assert not silent.seen(CHAT)
        assert (await proxy.log.request())["attempts"] == 2
        silent.clear()


async def test_it_is_waited_for_no_longer_than_the_request_may_take() -> None:
    pool = {"timeouts": {"total": "300ms"}}
    async with Ollama() as sim, running(sim.url, middleware=chain(), pool=pool) as proxy:
        sim.fault("stall", route="/api/create")
        reply = await ask(proxy.address, "POST", CHAT, V1[CHAT])
        assert (reply.status, reply.headers["x-error-code"]) == (504, "total_timeout")
        await eventually(lambda: not proxy.app.pool.backends[0].leases)
        sim.clear()


async def test_each_host_gets_it() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=chain()) as proxy:
        for name in ("b1", "b2", "b1"):
            assert (await ask(proxy.address, "POST", CHAT, V1[CHAT], {"X-Ollama-Backend": name})).clean
        assert len(one.seen("/api/create")) == len(two.seen("/api/create")) == 1


async def test_one_that_is_there_is_not_made_again() -> None:
    async with Ollama(MODEL, NAME) as sim, running(sim.url, middleware=chain()) as proxy:
        assert (await ask(proxy.address, "POST", CHAT, V1[CHAT])).clean
        assert not sim.seen("/api/create")
        assert models_of(sim, CHAT) == [NAME]


async def test_one_that_was_deleted_is_made_again() -> None:
    async with Ollama() as sim, running(sim.url, middleware=chain(), watched=True) as proxy:
        assert (await ask(proxy.address, "POST", CHAT, V1[CHAT])).clean
        assert (await ask(proxy.address, "DELETE", "/api/delete", {"model": NAME})).status == 200
        await proxy.app.watch.look(proxy.app.pool.backends[0])
        assert (await ask(proxy.address, "POST", CHAT, V1[CHAT])).clean
        assert len(sim.seen("/api/create")) == 2


async def test_where_it_cannot_be_made_the_model_itself_answers() -> None:
    async with Ollama() as sim, running(sim.url, middleware=chain()) as proxy:
        sim.fault("status", route="/api/create", status=500, message="no space left on device", times=None)
        for _ in range(3):
            assert (await ask(proxy.address, "POST", CHAT, V1[CHAT])).clean
        assert models_of(sim, CHAT) == [MODEL] * 3
        assert len(sim.seen("/api/create")) == 1  # it is not tried for each request
        (event,) = [event for event in proxy.log.events if event["event"] == "context_model_failed"]
        assert (event["backend"], event["model"], event["level"]) == ("b1", NAME, "warning")
        assert "500" in event["error"]


@pytest.mark.parametrize("model", ["nope", "gpt-oss:120b-cloud", NAME])
async def test_what_no_model_is_derived_from(model: str) -> None:
    """Not what the host lacks: Ollama would get it from the registry. Nor a cloud model, or one that is derived."""
    async with Ollama(MODEL, NAME, "gpt-oss:120b-cloud") as sim, running(sim.url, middleware=chain()) as proxy:
        await ask(proxy.address, "POST", CHAT, {**V1[CHAT], "model": model})
        assert not sim.seen("/api/create")
        assert models_of(sim, CHAT) == [model]


async def test_naming_a_derived_model_is_no_way_around_the_context() -> None:
    async with Ollama(MODEL, NAME) as sim, running(sim.url, middleware=chain(set=8192, v1="derive")) as proxy:
        assert (await ask(proxy.address, "POST", CHAT, {**V1[CHAT], "model": NAME})).clean
        assert models_of(sim, CHAT) == ["llama3.2:latest-ctx8k-by-proxy"]
        (made,) = sim.seen("/api/create")
        assert orjson.loads(made.body)["from"].endswith("library/llama3.2:latest")


@pytest.mark.parametrize("hosts", [1, 2])
async def test_lists_do_not_show_it(hosts: int) -> None:
    async with Ollama() as one, Ollama() as two:
        urls = [one.url, two.url][:hosts]
        async with running(*urls, middleware=chain(), watched=True) as proxy:
            assert (await ask(proxy.address, "POST", CHAT, V1[CHAT])).clean
            await asyncio.gather(*map(proxy.app.watch.look, proxy.app.pool.backends))
            assert any(NAME in sim.store.models or NAME in str(sim.store.models) for sim in (one, two))
            for path in ("/api/tags", "/v1/models", "/api/ps"):
                reply = await ask(proxy.address, "GET", path)
                assert b"by-proxy" not in reply.body
                assert b"llama3.2:latest" in reply.body


@pytest.mark.parametrize("hosts", [1, 2])
async def test_lists_show_it_where_its_model_was_deleted(hosts: int) -> None:
    """It still holds the files, and nobody else would find out."""
    async with Ollama(MODEL, NAME) as one, Ollama("qwen3") as two:
        urls = [one.url, two.url][:hosts]
        async with running(*urls, middleware=chain(), watched=True) as proxy:
            assert (await ask(proxy.address, "DELETE", "/api/delete", {"model": MODEL}, TO_B1)).status == 200
            for path in ("/api/tags", "/v1/models"):
                reply = await ask(proxy.address, "GET", path)
                assert NAME.encode() in reply.body
            assert (await ask(proxy.address, "DELETE", "/api/delete", {"model": NAME}, TO_B1)).status == 200
            assert b"llama3.2" not in (await ask(proxy.address, "GET", "/api/tags")).body


async def test_no_more_of_them_are_remembered_than_a_bound() -> None:
    """Clients choose the names, and where a host does not list its models nobody knows which of them are made up."""
    async with Ollama() as sim, running(sim.url, middleware=chain()) as proxy:
        sim.fault("status", route="/api/tags", status=500, times=None)
        models = ContextModels(proxy.app.pool, most=3)
        (backend,) = proxy.app.pool.backends
        for number in range(5):
            exchange = make_exchange("POST", CHAT, body=orjson.dumps({**V1[CHAT], "model": f"m{number}"}))
            await exchange.body()
            assert await models.name_for(exchange, backend, 4096) is None
        assert repr(models) == "<ContextModels 3 known, 0 being made>"


async def test_a_model_of_the_operators_own_may_be_named() -> None:
    async with Ollama(MODEL, "long", "qwen3") as sim:
        async with running(sim.url, middleware=chain(set=32768, v1={"llama3.2": "long"})) as proxy:
            assert (await ask(proxy.address, "POST", CHAT, V1[CHAT])).clean
            assert (await ask(proxy.address, "POST", CHAT, {**V1[CHAT], "model": "qwen3"})).clean
            assert models_of(sim, CHAT) == ["long", "qwen3"]
            assert not sim.seen("/api/create")
            assert (await ask(proxy.address, "POST", "/api/chat", {"model": MODEL, "messages": MESSAGES})).clean
            assert models_of(sim, "/api/chat") == [MODEL]


async def test_without_the_rule_nothing_is_made() -> None:
    async with Ollama() as sim, running(sim.url, middleware=chain(set=32768)) as proxy:
        assert (await ask(proxy.address, "POST", CHAT, V1[CHAT])).clean
        assert models_of(sim, CHAT) == [MODEL]
        assert not sim.seen("/api/create")
