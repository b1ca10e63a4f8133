"""proxy/pool.py."""

import asyncio

import pytest

from proxy.backend import Backend, Resident, make_backend
from proxy.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Refused,
    Truncated,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.exchange import Exchange
from proxy.health import Rules
from proxy.lease import Lease
from proxy.pool import Pool, PoolOptions, is_failure
from tests.support.asgi import make_exchange

MODEL = "registry.ollama.ai/library/m:latest"


def pool(*weights: float, slots: int | None = None, **options: float) -> Pool:
    rules = Rules(eject_after=3, eject_for=30.0)
    return Pool(
        [
            make_backend(f"b{n}", f"http://127.0.0.1:{n}", weight=w, slots=slots, rules=rules)
            for n, w in enumerate(weights, 1)
        ],
        PoolOptions(grace=0.0, **options),  # type: ignore[arg-type]
    )


async def chat(model: str = "m") -> Exchange:
    exchange = make_exchange(body=b'{"model":"%s","messages":[]}' % model.encode())
    await exchange.body()
    return exchange


def end(pool: Pool, exchange: Exchange, lease: Lease, error: BaseException | None = None) -> Backend:
    with lease:
        pool.finished(exchange, lease, error)
    return lease.backend


async def one(pool: Pool, error: BaseException | None = None) -> Backend:
    exchange = await chat()
    return end(pool, exchange, pool.lease(exchange), error)


def answer(status: int, *, busy: bool = False, missing: bool = False) -> UpstreamAnswer:
    return UpstreamAnswer(status, [], b"", busy=busy, missing=missing)


async def test_the_exchange_notes_where_it_went() -> None:
    two = pool(1, 1)
    exchange = await chat()
    with two.lease(exchange):
        assert two.untried(exchange)
    with two.lease(exchange):
        assert not two.untried(exchange)
    assert sorted(exchange.tried) == ["b1", "b2"]
    assert exchange.attempts == 2
    assert exchange.backend == exchange.tried[-1]
    assert exchange.reason == "only"


async def test_load_is_spread_by_weight() -> None:
    two = pool(1, 3)
    for backend in two.backends:
        backend.resident[MODEL] = Resident()
    held = [two.lease(await chat()) for _ in range(8)]
    assert [backend.active for backend in two.backends] == [2, 6]
    for lease in held:
        lease.give_back()


async def test_who_has_the_model_in_memory_gets_the_request() -> None:
    two = pool(1, 1)
    two.backends[1].resident[MODEL] = Resident()
    for _ in range(5):
        exchange = await chat()
        assert end(two, exchange, two.lease(exchange)).name == "b2"
        assert exchange.reason == "resident"


async def test_a_burst_waits_for_one_load() -> None:
    two = pool(1, 1, slots=2, spread_after=2)
    first = two.try_lease(await chat(), waiting=1)
    assert first is not None
    second = two.try_lease(await chat(), waiting=1)
    assert second is not None
    assert second.backend is first.backend
    waits = await chat()
    assert two.try_lease(waits, waiting=1) is None
    assert waits.reason == "waits: warm"
    spread = two.try_lease(waits, waiting=2)
    assert spread is not None
    assert spread.backend is not first.backend


async def test_full_backends_refuse_who_cannot_wait() -> None:
    single = pool(1, slots=1)
    single.lease(await chat())
    assert single.try_lease(await chat(), waiting=9) is None
    with pytest.raises(Refused) as refused:
        single.lease(await chat())
    assert (refused.value.status, refused.value.code) == (503, "no_slot")
    assert refused.value.headers["retry-after"] == "1"


async def test_a_conversation_returns_to_its_backend() -> None:
    two = pool(1, 1)
    for backend in two.backends:
        backend.resident[MODEL] = Resident()

    async def turn(text: bytes) -> str:
        exchange = make_exchange(body=b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % text)
        await exchange.body()
        return end(two, exchange, two.lease(exchange)).name

    for text in (b"a", b"b", b"c", b"d"):
        first = await turn(text)
        assert {await turn(text) for _ in range(5)} == {first}


async def test_a_pinned_request_goes_where_it_says_whatever_its_state() -> None:
    two = pool(1, 1)
    for _ in range(3):
        two.backends[0].health.probe_failed(0.0, "refused")
    exchange = await chat()
    exchange.pinned = "b1"
    assert end(two, exchange, two.lease(exchange)).name == "b1"
    assert exchange.reason == "pinned"


async def test_a_backend_that_refuses_connections_is_passed_over() -> None:
    two = pool(1, 1)
    down = await one(two, ConnectFailed("refused"))
    assert {(await one(two)).name for _ in range(20)} == {other.name for other in two.backends if other is not down}
    assert down.last_error == "refused"


async def test_who_fails_again_and_again_is_ejected_but_never_the_last() -> None:
    two = pool(1, 1)
    bad, good = two.backends

    async def fail(name: str) -> None:
        exchange = await chat()
        exchange.pinned = name
        end(two, exchange, two.lease(exchange), ConnectionLost("reset", sent=True, reused=False))

    for _ in range(3):
        await fail(bad.name)
    assert bad.health.state == "ejected"
    for _ in range(10):
        await fail(good.name)
    assert good.health.state == "suspect"
    assert (await one(two)) is good


async def test_at_most_a_share_is_ejected() -> None:
    four = pool(1, 1, 1, 1, eject_share=0.5)
    for backend in four.backends:
        for _ in range(5):
            exchange = await chat()
            exchange.pinned = backend.name
            end(four, exchange, four.lease(exchange), BadAnswer("junk"))
    assert sorted(backend.health.state for backend in four.backends) == ["ejected", "ejected", "suspect", "suspect"]


async def test_no_backend_is_a_503() -> None:
    with pytest.raises(Refused) as refused:
        Pool([]).lease(await chat())
    assert refused.value.status == 503


async def test_a_model_it_does_not_have_is_forgotten_and_its_list_asked_for() -> None:
    two = pool(1, 1)
    stale: list[Backend] = []
    two.on_stale(stale.append)
    for backend in two.backends:
        backend.models = {MODEL: {}}
    missed = await one(two, answer(404, missing=True))
    assert missed.has(MODEL) is False
    assert missed.health.state == "up"
    assert stale == [missed]
    assert {(await one(two)).name for _ in range(5)} == {other.name for other in two.backends if other is not missed}


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ConnectFailed("refused"), True),
        (ConnectionLost("reset", sent=True, reused=False), True),
        (BadAnswer("junk"), True),
        (Truncated("cut"), True),
        (UpstreamTimeout("slow", timer="first_byte"), True),
        (UpstreamTimeout("slow", timer="load"), True),
        (UpstreamTimeout("slow", timer="total"), False),
        (answer(500), True),
        (answer(503), True),
        (answer(503, busy=True), False),
        (answer(404, missing=True), False),
    ],
)
def test_what_is_a_sign_of_sickness(error: UpstreamError, failure: bool) -> None:
    assert is_failure(error) is failure


async def test_who_waits_is_told_once_a_turn() -> None:
    two = pool(1, 1)
    told: list[int] = []
    two.on_free(lambda: told.append(1))
    leases = [two.lease(await chat()) for _ in range(5)]
    for lease in leases:
        lease.give_back()
    await asyncio.sleep(0)
    assert told == [1]


async def test_what_the_queue_may_know() -> None:
    two = pool(1, 1, slots=3)
    exchange = await chat()
    assert two.capacity(exchange) == 6
    two.backends[0].models = {}
    two.backends[1].models = {MODEL: {}}
    assert two.capacity(exchange) == 3
    assert two.service_time(exchange) is None
    await one(two)
    assert two.service_time(exchange) is not None
    assert two.lane(await chat("m")) == two.lane(await chat("M:latest"))
    assert two.lane(await chat("m")) != two.lane(await chat("n"))
    assert pool(1).capacity(exchange) is None
    assert two.named("b1") is two.backends[0]
    assert two.named("x") is None
