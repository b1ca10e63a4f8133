"""proxy/pool/pool.py."""

import asyncio
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.kernel.errors import BadAnswer, ConnectFailed, Refused
from proxy.kernel.exchange import Exchange
from proxy.pool.backend import Backend
from proxy.pool.lease import Lease
from proxy.pool.pool import LOAD_TIME, Pool
from proxy.pool.residency import Resident
from proxy.pool.selection import Choice, Wait
from proxy.testing import make_exchange, suppose
from tests.support.backend import eventually
from tests.support.errors import answered
from tests.support.options import health_rules, make_backend, make_pool, pool_options

MODEL = "registry.ollama.ai/library/m:latest"


def pool(*weights: float, slots: int | None = None, **options: float) -> Pool:
    rules = health_rules(eject_after=3, eject_for=30.0)
    return Pool(
        [
            make_backend(f"b{n}", f"http://127.0.0.1:{n}", weight=w, slots=slots, rules=rules)
            for n, w in enumerate(weights, 1)
        ],
        pool_options(grace=0.0, **options),
    )


async def chat(model: str = "m", options: str = "{}", path: str = "/api/chat", **more: Any) -> Exchange:
    words = '"messages":[{"role":"system","content":""}]'  # it is no conversation, and not without a prompt
    exchange = make_exchange("POST", path, body=f'{{"model":"{model}",{words},"options":{options}}}'.encode(), **more)
    await exchange.body()
    return exchange


def loaded(*backends: Backend, context: int | None = None) -> None:
    for backend in backends:
        backend.residency.saw({MODEL: Resident(1, context)})


def end(pool: Pool, exchange: Exchange, lease: Lease, error: BaseException | None = None) -> Backend:
    suppose(exchange, tried=(*exchange.tried, lease.backend.name))
    with lease:
        pool.outcomes.finished(exchange, lease, error)
    return lease.backend


async def one(pool: Pool, error: BaseException | None = None) -> Backend:
    exchange = await chat()
    return end(pool, exchange, pool.lease(exchange), error)


def taken(pool: Pool, exchange: Exchange, *, waiting: int = 1) -> Lease:
    lease = pool.try_lease(exchange, waiting=waiting)
    assert isinstance(lease, Lease)
    return lease


async def test_none_is_taken_twice_while_another_is_left() -> None:
    two = pool(1, 1)
    exchange = await chat()
    first = end(two, exchange, two.lease(exchange))
    assert two.untried(exchange)
    assert two.serves(exchange)
    lease = two.lease(exchange)
    assert lease.reason == "only"
    assert end(two, exchange, lease) is not first
    assert not two.untried(exchange)
    assert two.serves(exchange)


async def test_load_is_spread_by_weight() -> None:
    two = pool(1, 3)
    loaded(*two.backends)
    held = [two.lease(await chat()) for _ in range(8)]
    assert [backend.active for backend in two.backends] == [2, 6]
    for lease in held:
        lease.give_back()


async def test_who_has_the_model_in_memory_gets_the_request() -> None:
    two = pool(1, 1)
    loaded(two.backends[1])
    for _ in range(5):
        exchange = await chat()
        lease = two.lease(exchange)
        assert lease.reason == "resident"
        assert end(two, exchange, lease).name == "b2"


async def test_a_model_in_another_setup_is_as_good_as_not_there() -> None:
    two = pool(1, 1)
    loaded(two.backends[0], context=4096)
    odd = await chat(options='{"num_ctx":32768}')
    lease = two.lease(odd)
    assert (lease.backend.name, lease.reason) == ("b2", "cold")
    lease.first_byte()
    end(two, odd, lease)
    for options, name, reason in (
        ('{"num_ctx":4096}', "b1", "resident"),
        ('{"num_ctx":32768}', "b2", "resident"),
        ("{}", "b1", "resident"),
    ):
        exchange = await chat(options=options)
        lease = two.lease(exchange)
        assert (lease.backend.name, lease.reason, lease.cold) == (name, reason, False)
        lease.first_byte()
        end(two, exchange, lease)
    lease = two.lease(await chat(options='{"num_ctx":8192}'))
    assert (lease.backend.name, lease.reason, lease.cold) == ("b2", "cold", True)  # where it was used before the other
    lease.give_back()


async def test_who_is_busy_draws_nothing_though_it_answers_at_once() -> None:
    two = pool(1, 1)
    loaded(*two.backends)
    full = await one(two, answered(503, busy=True))
    assert full.health.state == "up"
    assert full.last_error is None
    assert {(await one(two)).name for _ in range(10)} == {other.name for other in two.backends if other is not full}


async def test_a_burst_waits_for_one_load() -> None:
    two = pool(1, 1, slots=2, spread_after=2)
    first = taken(two, await chat())
    assert taken(two, await chat()).backend is first.backend
    for waiting in (1, 2):  # as many as may
        waits = await chat()
        assert two.try_lease(waits, waiting=waiting) == "warm"
        assert waits.reason is None  # what dispatch notes, of who is sent somewhere
        assert two.would(waits, waiting=waiting) == Wait("warm")
    assert taken(two, waits, waiting=3).backend is not first.backend


@pytest.mark.parametrize("mark", [0, 1])
async def test_a_mark_of_none_spreads_at_once(mark: int) -> None:
    two = pool(1, 1, slots=1, spread_after=mark)
    loaded(two.backends[0])
    two.lease(await chat())
    assert isinstance(two.would(await chat(), waiting=1), Wait if mark else Choice)


async def test_nobody_waits_longer_for_a_warm_backend_than_a_load_takes() -> None:
    two = pool(1, 1, slots=1)
    loaded(two.backends[0])
    two.lease(await chat())
    now = monotonic()
    assert two.try_lease(await chat(started_at=now), waiting=1) == "warm"
    late = await chat(started_at=now - LOAD_TIME)
    assert isinstance(two.would(late, waiting=1), Choice)
    lease = taken(two, late)
    lease.first_byte()
    end(two, late, lease)  # now it is known how long that takes: next to nothing
    two.backends[1].residency.clear()
    assert isinstance(two.would(await chat(started_at=now - 1.0), waiting=1), Choice)


async def test_full_backends_refuse_who_cannot_wait() -> None:
    single = pool(1, slots=1)
    single.lease(await chat())
    assert single.try_lease(await chat(), waiting=9) == "slots"
    with pytest.raises(Refused) as refused:
        single.lease(await chat())
    assert (refused.value.status, refused.value.code) == (503, "no_slot")
    assert refused.value.headers["retry-after"] == "1"


async def test_whether_any_slot_is_free() -> None:
    two = pool(1, 1, slots=1)
    leases = [two.lease(await chat()) for _ in two.backends]
    assert not two.any_free()
    leases[0].give_back()
    assert two.any_free()
    two.lease(await chat())
    assert not two.any_free()
    two.backends[0].health.draining = True
    assert two.any_free()  # those that wait for it by its name have to hear of it
    assert pool(1).any_free()


async def test_whether_there_is_room_here_or_at_the_others_that_share_the_slots() -> None:
    shared = pool(1, slots=2)
    backend = shared.backends[0]
    backend.permits = 0
    assert (shared.any_free(), shared.any_free(if_asked=True)) == (False, True)
    backend.elsewhere = 2
    assert not shared.any_free(if_asked=True)
    backend.health.draining = True
    assert shared.any_free(if_asked=True)


async def test_what_runs_no_model_needs_no_slot() -> None:
    single = pool(1, slots=1)
    single.lease(await chat())
    for exchange in (
        await chat(path="/api/show"),
        await chat(path="/api/pull"),
        await chat("gpt-oss:120b-cloud"),
        make_exchange("GET", "/api/version"),
    ):
        with single.lease(exchange) as lease:
            assert single.backends[0].active == 1
            assert lease.reason == "only"
        assert single.capacity(exchange) is None
    with single.hold(single.backends[0]):
        assert single.backends[0].leases == 2
    assert single.backends[0].leases == 1


async def test_a_conversation_returns_to_its_backend() -> None:
    two = pool(1, 1)
    loaded(*two.backends)

    async def turn(text: bytes) -> str:
        exchange = make_exchange(body=b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % text)
        await exchange.body()
        return end(two, exchange, two.lease(exchange)).name

    for text in (b"a", b"b", b"c", b"d"):
        first = await turn(text)
        assert {await turn(text) for _ in range(5)} == {first}


async def test_a_pinned_request_goes_where_it_says_whatever_its_state() -> None:
    two = pool(1, 1, slots=1)
    for _ in range(3):
        two.backends[0].health.probe_failed(0.0, "refused")
    exchange = await chat()
    suppose(exchange, pinned="b1")
    lease = two.lease(exchange)
    assert (lease.backend.name, lease.reason) == ("b1", "pinned")
    assert two.try_lease(exchange, waiting=9) == "slots"
    end(two, exchange, lease)
    assert two.untried(exchange) is False
    suppose(exchange, pinned="b2")
    assert two.untried(exchange) is True


async def test_a_backend_that_there_is_not() -> None:
    exchange = await chat()
    suppose(exchange, pinned="b9")
    with pytest.raises(Refused, match="there are b1, b2") as refused:
        pool(1, 1).lease(exchange)
    assert (refused.value.status, refused.value.code) == (404, "unknown_backend")


async def test_draining_is_the_operators_word() -> None:
    two = pool(1, 1)
    drained, other = two.backends
    drained.health.draining = True
    loaded(drained)
    assert {(await one(two)) for _ in range(5)} == {other}
    other.health.draining = True
    with pytest.raises(Refused) as refused:
        two.lease(await chat())
    assert (refused.value.status, refused.value.code) == (503, "no_backend")
    exchange = await chat()
    suppose(exchange, pinned="b1")
    with pytest.raises(Refused, match="drained"):
        two.lease(exchange)
    pull = await chat(path="/api/pull")
    suppose(pull, pinned="b1")
    two.lease(pull).give_back()


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
        suppose(exchange, pinned=name)
        end(two, exchange, two.lease(exchange), ConnectFailed("refused"))

    for _ in range(3):
        await fail(bad.name)
    assert bad.health.state == "ejected"
    for _ in range(10):
        await fail(good.name)
    assert good.health.state == "suspect"
    assert (await one(two)) is good


async def test_who_was_failed_may_try_one_that_is_ejected_but_none_that_is_down() -> None:
    two = pool(1, 1)
    ejected, good = two.backends
    ejected.slots = 1
    ejected.health.eject(monotonic(), "reset")
    exchange = await chat()
    assert end(two, exchange, two.lease(exchange), ConnectFailed("refused")) is good
    assert not two.untried(exchange)  # nobody is hurried for its sake
    assert two.untried(exchange, ejected=True)
    lease = two.lease(exchange)
    assert (lease.backend, lease.reason) == (ejected, "last_hope")
    assert not two.untried(exchange, ejected=True)  # its only slot is taken
    assert two.lease(exchange).backend is good
    lease.give_back()
    for _ in range(3):
        ejected.health.probe_failed(0.0, "refused")
    assert not two.untried(exchange, ejected=True)


async def test_of_an_ejected_backend_one_request_decides() -> None:
    two = pool(1, 1)
    told: list[int] = []
    two.on_free(lambda: told.append(1))
    bad, good = two.backends
    bad.health.rules = health_rules(eject_after=1, eject_for=0.01)
    before = await chat()
    suppose(before, pinned="b1")
    old = two.lease(before)
    failing = await chat()
    suppose(failing, pinned="b1")
    end(two, failing, two.lease(failing), BadAnswer("junk"))
    assert bad.health.state == "ejected"
    await eventually(lambda: len(told) >= 2)  # when the slot was given back, and when its time was up
    good.active = 100
    trial = two.lease(await chat())
    assert trial.backend is bad
    assert two.lease(await chat()).backend is good
    end(two, before, old)  # began before the ejection
    assert bad.health.state == "ejected"
    assert two.lease(await chat()).backend is good
    end(two, await chat(), trial, BadAnswer("junk"))
    assert bad.health.ejections == 2
    await eventually(lambda: bad.health.usable(monotonic()))
    second = await chat()
    end(two, second, two.lease(second))
    assert bad.health.shown == "up"


async def test_at_most_a_share_is_ejected() -> None:
    four = pool(1, 1, 1, 1, eject_share=0.5)
    for backend in four.backends:
        for _ in range(5):
            exchange = await chat()
            suppose(exchange, pinned=backend.name)
            end(four, exchange, four.lease(exchange), BadAnswer("junk"))
    assert sorted(backend.health.state for backend in four.backends) == ["ejected", "ejected", "suspect", "suspect"]


async def test_no_backend_is_a_503() -> None:
    with pytest.raises(Refused) as refused:
        make_pool([]).lease(await chat())
    assert refused.value.status == 503


async def test_a_model_it_does_not_have_is_forgotten_and_its_list_asked_for() -> None:
    two = pool(1, 1)
    stale: list[Backend] = []

    def ask(backend: Backend) -> bool:
        stale.append(backend)
        return True

    two.on_stale(ask)
    for backend in two.backends:
        backend.models = {MODEL: {}}
    missed = await one(two, answered(404, missing=True))
    assert missed.has(MODEL) is False
    assert missed.health.state == "up"
    assert stale == [missed]
    assert {(await one(two)).name for _ in range(5)} == {other.name for other in two.backends if other is not missed}


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
    refused = two.lease(exchange)
    refused.first_byte(served=False)
    end(two, exchange, refused)
    assert two.service_time(exchange) is None
    await one(two)
    assert two.service_time(exchange) is not None
    assert pool(1).capacity(exchange) is None
    assert two.named("b1") is two.backends[0]
    assert two.named("x") is None
    assert two.knows(MODEL)
    assert not two.knows("x")


async def test_lanes() -> None:
    """Requests of one lane can be served by the same backends."""
    two = pool(1, 1)
    lane = two.lane(await chat("m"))
    assert lane == two.lane(await chat("M:latest"))
    others = [
        await chat("n"),
        await chat("m", '{"num_ctx":8192}'),
        await chat("a:cloud"),
        await chat("b:cloud"),
        await chat("m", path="/api/embed"),
        await chat("m"),
        await chat("m"),
    ]
    suppose(others[-1], tried=("b1",))
    suppose(others[-2], pinned="b1")
    assert len({lane, *map(two.lane, others)}) == 8


# What is learned of how many run at once


async def test_what_was_learned_holds_where_requests_wait_and_one_more_is_tried_if_no_other_backend_is_free() -> None:
    two = pool(1, 1)
    loaded(*two.backends)
    held = [
        two.lease(
            await chat(),
        )
        for _ in range(2)
    ]
    for backend in two.backends:
        runs = backend.parallel.of(MODEL)
        assert runs is not None
        runs.limit = 1
    assert isinstance(two.would(await chat()), Choice)  # nothing queues: it is not refused for what was learned
    assert two.capacity(await chat()) == 2
    tried = [taken(two, await chat()) for _ in range(2)]
    assert [backend.active for backend in two.backends] == [2, 2]
    assert two.try_lease(await chat(), waiting=1) == "slots"
    assert isinstance(two.try_lease(await chat("n"), waiting=1), Lease)  # another model
    for lease in (*held, *tried):
        lease.give_back()


async def test_a_free_backend_goes_before_a_trial() -> None:
    two = pool(1, 1)
    loaded(*two.backends)
    first = taken(two, await chat())
    runs = first.backend.parallel.of(MODEL)
    assert runs is not None
    runs.limit = 1
    assert taken(two, await chat()).backend is not first.backend


async def test_embeddings_wait_for_each_other_and_not_for_answers() -> None:
    one = pool(1)
    one.backends[0].version = "0.32.15"
    loaded(*one.backends)
    taken(one, await chat())
    lease = taken(one, await chat(path="/api/embed"))
    assert one.try_lease(await chat(path="/api/embed"), waiting=1) == "slots"
    assert one.capacity(await chat(path="/api/embed")) == 1
    taken(one, await chat())
    pinned = await chat(path="/api/embed")
    suppose(pinned, pinned="b1")
    assert one.try_lease(pinned, waiting=1) == "slots"
    lease.give_back()
    taken(one, pinned)


Step = tuple[str, str, int]
"""What happens, with which model, and to which of the requests that run."""


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["chat", "chat", "embed", "answer", "end", "fail", "leave", "give_back"]),
            st.sampled_from("mn"),
            st.integers(0, 20),
        ),
        max_size=60,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_never_more_run_than_may_and_no_slot_is_lost(steps: list[Step], slots: int, each: int) -> None:
    """Requests that are answered, fail, or whose clients leave, at every stage."""
    asyncio.run(play(steps, slots, min(slots, each)))


async def play(steps: list[Step], slots: int, each: int) -> None:
    rules = health_rules()
    hosts = [
        make_backend(f"b{n}", f"http://127.0.0.1:{n}", slots=slots, slots_per_model=each, rules=rules) for n in (1, 2)
    ]
    both = Pool(hosts, pool_options(grace=0.0001, grace_at_most=0.0005))
    idle = asyncio.Event()
    both.on_free(lambda: idle.set() if not any(host.leases for host in hosts) else None)
    running: list[Lease] = []
    silent: list[Lease] = []
    for what, model, which in steps:
        if what in ("chat", "embed"):
            found = both.try_lease(await chat(model, path=f"/api/{what}"), waiting=1)
            running += [found] if isinstance(found, Lease) else []
            silent += running[-1:] if isinstance(found, Lease) else []
        elif silent and what == "answer":
            silent.pop(which % len(silent)).first_byte(streamed=which % 3 != 0)
        elif running:
            lease = running.pop(which % len(running))
            silent = [one for one in silent if one is not lease]
            end_one(lease, what)
        for host in hosts:
            assert host.active <= slots
            assert all(count <= each for count in host.active_by_model.values())
            assert sum(host.active_by_model.values()) == host.active == host.leases
    for lease in running:
        end_one(lease, "leave")
    if any(host.leases for host in hosts):
        async with asyncio.timeout(10):
            await idle.wait()
    for host in hosts:
        assert (host.active, host.leases, +host.embedding, host.active_by_model) == (0, 0, {}, {})
        assert not any(len(host.parallel.of(model) or ()) for model in (MODEL, MODEL.replace("/m:", "/n:")))


def end_one(lease: Lease, how: str) -> None:
    errors: dict[str, BaseException] = {"fail": ConnectFailed("refused"), "leave": asyncio.CancelledError()}
    if how == "give_back":
        lease.give_back()
        return
    try:
        with lease:
            if how in errors:
                raise errors[how]
    except (ConnectFailed, asyncio.CancelledError):
        pass


# A new policy file


async def test_a_backend_that_went_finishes_what_it_runs() -> None:
    two = pool(1, 1)
    gone, stays = two.backends
    lease = two.hold(gone)
    added = make_backend("b3", "http://127.0.0.1:3")
    two.replace([stays, added], pool_options())
    assert two.backends == [stays, added]
    assert two.named("b1") is None
    await two.close_retired()
    assert not gone.transport._gone  # type: ignore[attr-defined]
    lease.give_back()
    await asyncio.gather(*(two.close_retired() for _ in range(3)))
    assert gone.transport._gone  # type: ignore[attr-defined]
    await two.aclose()


async def test_the_same_host_in_other_words_keeps_what_is_known_of_it() -> None:
    two = pool(1, 1)
    kept, other = two.backends
    loaded(kept)
    lease = two.lease(await chat())
    changed = make_backend("b1", "http://127.0.0.1:1", transport=kept.transport, slots=7)
    two.replace([changed, other], pool_options(rules=health_rules(eject_after=9)))
    assert two.backends == [kept, other]
    assert (kept.slots, kept.active) == (7, 1)
    assert MODEL in kept.resident
    assert {backend.health.rules.eject_after for backend in two.backends} == {9}
    lease.give_back()
    assert kept.active == 0


async def test_a_drained_backend_stays_drained_wherever_it_moves() -> None:
    two = pool(1, 1)
    two.backends[0].health.draining = True
    two.replace([make_backend("b1", "http://127.0.0.1:9"), two.backends[1]], pool_options())
    assert [backend.health.draining for backend in two.backends] == [True, False]
    assert "b1 draining" in repr(two)


async def test_the_pool_says_how_its_backends_are() -> None:
    two = pool(1, 1, slots=2)
    end(two, await chat(), two.lease(await chat()), ConnectFailed("refused"))
    lease = two.lease(await chat())
    two.replace(two.backends[:1], two.options)
    assert repr(two).startswith("<Pool of 1, 1 more to close, ")
    for part in ("<Backend b1 ", "of 2 active", "in flight", "last error: "):
        assert part in repr(two)
    lease.give_back()
