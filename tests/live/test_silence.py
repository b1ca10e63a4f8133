"""A host that goes silent under its requests, hosts that come back, and what a busy host must not suffer for it."""

import asyncio
from typing import Any, Final

import orjson
import pytest
import yaml

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.policy import load_text
from tests.support.proxy import Running, running
from tests.support.wire import Reply, ask

CHAT: Final[dict[str, Any]] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
QUICK: Final = {"health": {"every": "250ms", "timeout": "200ms", "down_after": 2}, "grace": "0s"}
CHAINS: Final[dict[str, list[Any]]] = {
    "alone": ["logging"],
    "off": ["logging", {"retry": {"attempts": 1}}],
    "queue": ["logging", "queue"],
    "retry": ["logging", "retry"],
    "both": ["logging", "queue", "retry"],
}
PINNED: Final = {"x-ollama-backend": "b1"}


def hosts(*sims: Ollama, slots: int = 4) -> list[dict[str, Any]]:
    return [{"name": f"b{number}", "url": sim.url, "slots": slots} for number, sim in enumerate(sims, 1)]


def chat(proxy: Running, path: str = "/api/chat", body: dict[str, Any] | None = None) -> asyncio.Task[Reply]:
    return asyncio.create_task(ask(proxy.address, "POST", path, body or CHAT))


async def all_asked(proxy: Running) -> None:
    await eventually(lambda: all(backend.seen_at is not None for backend in proxy.app.pool.backends))


async def waiting(proxy: Running, sims: list[Ollama], path: str = "/api/chat") -> tuple[Ollama, Ollama]:
    """Return the host that got the request, and the other one."""
    await eventually(lambda: any(sim.seen(path) for sim in sims))
    return (sims[0], sims[1]) if sims[0].seen(path) else (sims[1], sims[0])


async def freeze(sim: Ollama) -> None:
    """Answer nothing from now on, whatever is asked."""
    sim.fault("stall", times=None)


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("path", ["/api/chat", "/api/embed", "/api/show"])
async def test_a_request_moves_from_a_host_that_went_silent(chain: list[Any], path: str) -> None:
    body = {"model": "nomic-embed-text", "input": "hi"} if path == "/api/embed" else CHAT
    async with (
        Ollama() as one,
        Ollama() as two,
        running(*hosts(one, two), watched=True, middleware=chain, pool=QUICK) as proxy,
    ):
        await all_asked(proxy)
        for sim in (one, two):
            sim.fault("stall", route=path)  # whoever gets it answers nothing
        reply = chat(proxy, path, body)
        silent, other = await waiting(proxy, [one, two], path)
        await freeze(silent)
        other.clear()
        assert (await reply).status == 200
        line = await proxy.log.request()
        assert (line["attempts"], line["outcome"]) == (2, "completed")
        await eventually(lambda: not any(backend.leases or backend.awaited for backend in proxy.app.pool.backends))
        silent.clear()


async def test_it_stays_while_no_other_host_can_have_it_and_is_answered_when_the_host_thaws() -> None:
    async with Ollama() as one, running(*hosts(one), watched=True, middleware=CHAINS["both"], pool=QUICK) as proxy:
        await all_asked(proxy)
        one.fault("stall", route="/api/chat")
        reply = chat(proxy)
        await one.wait_for(lambda: one.seen("/api/chat"))
        await freeze(one)
        (backend,) = proxy.app.pool.backends
        await eventually(lambda: backend.health.state == "down")
        one.clear()
        assert (await reply).status == 200
        assert (await proxy.log.request())["attempts"] == 1


async def test_it_moves_when_another_host_comes_back_later() -> None:
    async with (
        Ollama() as one,
        Ollama() as two,
        running(*hosts(one, two), watched=True, middleware=CHAINS["both"], pool=QUICK) as proxy,
    ):
        await all_asked(proxy)
        backends = proxy.app.pool.backends
        await two.stop()
        await eventually(lambda: backends[1].health.state == "down")
        one.fault("stall", route="/api/chat")
        reply = chat(proxy)
        await one.wait_for(lambda: one.seen("/api/chat"))
        await freeze(one)
        await eventually(lambda: backends[0].health.state == "down")
        await two.start()
        assert (await reply).status == 200
        assert (await proxy.log.request())["backend"] == "b2"
        one.clear()


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [("/api/chat", CHAT, PINNED), ("/api/pull", {"model": "llama3.2"}, PINNED)],
    ids=["names its host", "may not be sent twice"],
)
async def test_what_may_go_nowhere_else_stays(path: str, body: dict[str, Any], fields: dict[str, str]) -> None:
    async with (
        Ollama() as one,
        Ollama() as two,
        running(*hosts(one, two), watched=True, middleware=CHAINS["retry"], pool=QUICK) as proxy,
    ):
        await all_asked(proxy)
        one.fault("stall", route=path)
        reply = asyncio.create_task(ask(proxy.address, "POST", path, body, fields))
        await one.wait_for(lambda: one.seen(path))
        await freeze(one)
        await eventually(lambda: proxy.app.pool.backends[0].health.state == "down")
        one.clear()
        assert (await reply).status == 200
        assert not two.seen(path)


async def test_it_moves_from_a_host_that_a_reload_has_taken_out() -> None:
    async with (
        Ollama() as one,
        Ollama() as two,
        running(*hosts(one, two), watched=True, middleware=CHAINS["both"], pool=QUICK) as proxy,
    ):
        await all_asked(proxy)
        for sim in (one, two):
            sim.fault("stall", route="/api/chat")
        reply = chat(proxy)
        silent, other = await waiting(proxy, [one, two])
        other.clear()
        left = [host for host in hosts(one, two) if host["url"] == other.url]
        proxy.app.reload(load_text(yaml.safe_dump({"backends": left, "middleware": CHAINS["both"], "pool": QUICK})))
        await freeze(silent)
        assert (await reply).status == 200
        assert (await proxy.log.request())["attempts"] == 2
        await eventually(lambda: not proxy.app.pool.retired)
        silent.clear()


@pytest.mark.parametrize("retry", [False, True])
async def test_what_a_middleware_rewrote_moves_only_where_it_is_rewritten_again(retry: bool) -> None:
    """The client's own body, which the middleware did not want to pass, reaches no host."""
    masked = {**CHAT, "messages": [{"role": "user", "content": "masked"}]}
    rewrites = {"use": "tests.support.plugins:RewritesOnce", "body": orjson.dumps(masked).decode()}
    chain: list[Any] = ["logging", *(["retry"] if retry else []), rewrites]
    async with (
        Ollama() as one,
        Ollama() as two,
        running(*hosts(one, two), watched=True, middleware=chain, pool=QUICK) as proxy,
    ):
        await all_asked(proxy)
        for sim in (one, two):
            sim.fault("stall", route="/api/chat")
        reply = chat(proxy)
        silent, other = await waiting(proxy, [one, two])
        await freeze(silent)
        other.clear()
        await eventually(lambda: any(backend.health.state == "down" for backend in proxy.app.pool.backends))
        await (other.wait_for(lambda: other.seen("/api/chat")) if retry else eventually(lambda: not reply.done()))
        silent.clear()
        assert (await reply).status == 200
        sent = [seen.body for sim in (one, two) for seen in sim.seen("/api/chat")]
        assert sent == [orjson.dumps(masked)] * (2 if retry else 1)


async def test_a_host_that_is_busy_with_a_prompt_is_asked_a_few_times_and_keeps_its_request() -> None:
    async with (
        Ollama() as one,
        Ollama() as two,
        running(*hosts(one, two), watched=True, middleware=CHAINS["both"], pool={"health": {"every": "2s"}}) as proxy,
    ):
        await all_asked(proxy)
        held = [sim.fault("stall", route="/api/chat") for sim in (one, two)]
        reply = chat(proxy)
        busy, idle = await waiting(proxy, [one, two])
        before, elsewhere = len(busy.seen("/api/version")), len(idle.seen("/api/version"))
        await busy.wait_for(lambda: len(busy.seen("/api/version")) >= before + 3)
        asked = len(busy.seen("/api/version")) - before
        assert asked > len(idle.seen("/api/version")) - elsewhere  # nobody suspects the other one
        for fault in held:
            fault.release()
        assert (await reply).status == 200
        assert (await proxy.log.request())["attempts"] == 1
        assert all(backend.health.state == "up" for backend in proxy.app.pool.backends)


async def test_hosts_that_answer_are_not_probed_for_it() -> None:
    async with (
        Ollama(tokens=3) as one,
        running(*hosts(one), watched=True, middleware=CHAINS["both"], pool={"health": {"every": "1m"}}) as proxy,
    ):
        await all_asked(proxy)
        for _ in range(50):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200
        assert len(one.seen("/api/version")) == 1


# Hosts that come back


@pytest.mark.parametrize("chain", [CHAINS["retry"], CHAINS["both"]], ids=["retry", "both"])
async def test_a_host_that_is_restarted_is_waited_for(chain: list[Any]) -> None:
    async with Ollama() as one, running(*hosts(one), watched=True, middleware=chain, pool=QUICK) as proxy:
        await all_asked(proxy)
        (backend,) = proxy.app.pool.backends
        await one.stop()
        await eventually(lambda: backend.health.state == "down")
        reply = chat(proxy)
        await eventually(lambda: any(exchange.tried for exchange in proxy.app.frame.live))
        await one.start()
        assert (await reply).status == 200
        line = await proxy.log.request()
        assert (line["attempts"], line["gave_up"]) == (2, None)


async def test_one_that_is_back_may_have_a_request_that_failed_everywhere() -> None:
    """The first host answers 500, the other one is down and comes back."""
    async with (
        Ollama() as one,
        Ollama() as two,
        running(*hosts(one, two), watched=True, middleware=CHAINS["both"], pool=QUICK) as proxy,
    ):
        await all_asked(proxy)
        await two.stop()
        await eventually(lambda: proxy.app.pool.backends[1].health.state == "down")
        one.fault("status", status=500, message="out of memory", times=None, route="/api/chat")
        reply = chat(proxy)
        await one.wait_for(lambda: one.seen("/api/chat"))
        await two.start()
        assert (await reply).status == 200
        assert (await proxy.log.request())["backend"] == "b2"


async def test_hosts_that_have_been_dead_for_longer_are_not_waited_for() -> None:
    patience: list[Any] = ["logging", {"retry": {"patience": "300ms", "backoff": {"base": "0s"}}}]
    async with Ollama() as one, running(*hosts(one), watched=True, middleware=patience, pool=QUICK) as proxy:
        await all_asked(proxy)
        (backend,) = proxy.app.pool.backends
        await one.stop()
        await eventually(lambda: backend.health.state == "down")
        backend.health.left_at -= 0.3  # it has been away for longer than a request waits
        probed = backend.health.probed_at
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (reply.status, orjson.loads(reply.body)["code"]) == (502, "upstream_unreachable")
        assert backend.health.probed_at > probed  # it was asked once more


async def test_a_model_that_nobody_is_known_to_have_is_not_waited_for() -> None:
    """The other host was never up, so that it may have any model."""
    chain: list[Any] = ["logging", {"retry": {"patience": "1h"}}]
    async with Ollama() as one:
        gone = {"name": "b2", "url": "http://127.0.0.1:1"}
        async with running(*hosts(one), gone, watched=True, middleware=chain, pool=QUICK) as proxy:
            reply = await ask(proxy.address, "POST", "/api/chat", {**CHAT, "model": "nosuch"})
            assert (reply.status, orjson.loads(reply.body)["code"]) == (502, "upstream_unreachable")


async def test_an_error_of_a_host_that_is_there_is_told_at_once() -> None:
    chain: list[Any] = ["logging", {"retry": {"patience": "1h"}}]
    async with Ollama() as one, running(*hosts(one), watched=True, middleware=chain, pool=QUICK) as proxy:
        await all_asked(proxy)
        one.fault("status", status=500, message="out of memory", times=None, route="/api/chat")
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 500
        assert (await proxy.log.request())["gave_up"] == "no_other_backend"


async def test_nobody_waits_past_the_time_that_the_caller_has() -> None:
    chain: list[Any] = ["logging", "queue", {"retry": {"patience": "1h", "backoff": {"base": "0s"}}}]
    async with Ollama() as one, running(*hosts(one), watched=True, middleware=chain, pool=QUICK) as proxy:
        await all_asked(proxy)
        await one.stop()
        await eventually(lambda: proxy.app.pool.backends[0].health.state == "down")
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT, {"x-request-timeout": "300ms"})
        assert reply.status == 502
