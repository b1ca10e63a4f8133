"""proxy/relay/unload_everywhere.py; the rest of it is in tests/live/test_load_and_unload.py."""

import orjson
import pytest

from proxy.kernel.model_names import parse
from proxy.pool.pool import Pool
from proxy.relay import unload_everywhere
from proxy.relay.unload_everywhere import UnloadEverywhere
from proxy.simulator import Ollama
from proxy.testing import call, make_exchange
from tests.support.backend import backend, once, reply
from tests.support.options import make_backend, pool_options

UNLOAD = b'{"model":"llama3.2","keep_alive":0}'


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "concerned"),
    [
        ("POST", "/api/generate", UNLOAD, [], True),
        ("POST", "/api/chat", UNLOAD, [], True),
        ("POST", "/api/generate", b'{"model":"llama3.2"}', [], False),
        ("POST", "/api/generate", b'{"model":"gpt-oss:120b-cloud","keep_alive":0}', [], False),
        ("POST", "/api/generate", UNLOAD, [("x-ollama-backend", "b1")], False),
        ("POST", "/api/generate", UNLOAD, [("via", "1.1 op-test")], False),
        ("POST", "/api/embed", UNLOAD, [], False),
        ("GET", "/api/tags", b"", [], False),
    ],
)
async def test_what_concerns_it(
    method: str, path: str, body: bytes, headers: list[tuple[str, str]], concerned: bool
) -> None:
    pool = Pool([make_backend("b1", "http://127.0.0.1:1")], pool_options())
    exchange = make_exchange(method, path, body=body, headers=headers)
    assert await UnloadEverywhere(pool, pseudonym="op-test").concerns(exchange) is concerned
    await pool.aclose()


async def test_whom_it_tells() -> None:
    """Not whom it is known to be useless to tell: a host that is down, or lists the model no more."""
    hosts = [make_backend(f"b{number}", "http://127.0.0.1:1") for number in range(1, 5)]
    pool = Pool(hosts, pool_options())
    exchange = make_exchange("POST", "/api/generate", body=UNLOAD)
    await exchange.body()
    hosts[0].models = {"registry.ollama.ai/library/llama3.2:latest": {}}
    hosts[1].models = {}
    for _ in range(9):
        hosts[2].health.probe_failed(1.0, "gone")
    hosts[0].health.draining = True
    assert [host.name for host in UnloadEverywhere(pool, pseudonym="p").backends(exchange)] == ["b1", "b4"]
    await pool.aclose()


async def test_an_answer_of_any_length_is_not_kept() -> None:
    async with Ollama() as sim, backend(once(reply(b"x" * 100_000))) as odd:
        pool = Pool([make_backend("b1", sim.url), make_backend("b2", odd.url)], pool_options())
        exchange = make_exchange("POST", "/api/generate", body=UNLOAD)
        app = UnloadEverywhere(pool, pseudonym="op-test")
        assert await app.concerns(exchange)
        answer = await call(app, exchange)
        assert "b2: the answer to an unload is longer than" in str(answer.error)
        assert not any(host.leases for host in pool.backends)
        await pool.aclose()


async def test_the_answer_is_that_of_one_of_them() -> None:
    async with Ollama() as one, Ollama() as two:
        pool = Pool([make_backend("b1", one.url), make_backend("b2", two.url)], pool_options())
        exchange = make_exchange("POST", "/api/generate", body=UNLOAD)
        app = UnloadEverywhere(pool, pseudonym="op-test")
        assert await app.concerns(exchange)
        answer = await call(app, exchange)
        assert orjson.loads(answer.body)["done_reason"] == "unload"
        assert (exchange.backend, exchange.tried, exchange.committed) == ("all", ("b1", "b2"), True)
        await pool.aclose()


@pytest.mark.parametrize("loading", [False, True])
async def test_a_host_that_is_silent_holds_nobody_up_unless_it_loads_the_model(
    monkeypatch: pytest.MonkeyPatch, loading: bool
) -> None:
    monkeypatch.setattr(unload_everywhere, "AT_ONCE", 0.1)
    model = parse("llama3.2")
    assert model is not None
    async with Ollama() as one, Ollama() as two:
        pool = Pool([make_backend("b1", one.url), make_backend("b2", two.url)], pool_options())
        if loading:
            pool.backends[1].residency.began(model.key, (), 0.0, slot=False)
        two.fault("stall", route="/api/generate", delay=0.3)
        exchange = make_exchange("POST", "/api/generate", body=UNLOAD)
        app = UnloadEverywhere(pool, pseudonym="op-test")
        assert await app.concerns(exchange)
        answer = await call(app, exchange)
        told = "b2: the backend did not answer within 0.1 s (timer first_byte) (unloaded at b1)"
        assert answer.complete if loading else told in str(answer.error)
        assert not pool.backends[0].leases
        await pool.aclose()
