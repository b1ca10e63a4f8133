"""proxy/pool/silence_watch.py; tests/live/test_silence.py has hosts that really fall silent."""

import asyncio
from typing import Any, cast

import pytest

from proxy.kernel.errors import BackendDown
from proxy.kernel.exchange import Exchange
from proxy.pool.awaited_answer import AwaitedAnswer
from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.pool.silence_watch import SilenceWatch
from proxy.testing import make_exchange
from tests.support.options import make_backend, make_pool


class Clock:
    """The time of the running loop, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


def make(number: int = 1) -> tuple[Pool, SilenceWatch, list[str]]:
    pool = make_pool([make_backend(f"b{n}", f"http://127.0.0.1:{n}") for n in range(1, number + 1)])
    asked: list[str] = []
    return pool, SilenceWatch(pool, lambda backend: asked.append(backend.name)), asked


async def asked_for(path: str = "/api/chat", **noted: Any) -> Exchange:
    exchange = make_exchange("POST", path, body=b'{"model":"m","messages":[{}]}', **noted)
    await exchange.body()
    return exchange


class Limit:
    """The time-out of a wait that nobody is in."""

    def expired(self) -> bool:
        return False

    def reschedule(self, when: float | None) -> None:
        pass


def wait_at(backend: Backend, exchange: Exchange, *, movable: bool = True) -> AwaitedAnswer:
    awaited = AwaitedAnswer(exchange, movable=movable)
    awaited.limit = cast(asyncio.Timeout, Limit())
    backend.awaited[awaited] = None
    return awaited


async def test_a_backend_that_answers_is_asked_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, watch, asked = make()
    clock = Clock(monkeypatch)
    wait_at(pool.backends[0], await asked_for())
    times: list[float] = []
    for _ in range(30):
        clock.now += 1.0
        before = len(asked)
        watch.look(1.0, 5.0)
        times += [clock.now - 1000.0] * (len(asked) - before)
    assert times == [1.0, 3.0, 7.0, 12.0, 17.0, 22.0, 27.0]


async def test_one_that_was_heard_or_owes_nothing_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, watch, asked = make(2)
    clock = Clock(monkeypatch)
    backend, heard = pool.backends[0], 1000.0
    monkeypatch.setattr(Backend, "heard", property(lambda _: heard))
    awaited = wait_at(backend, await asked_for())
    for _ in range(10):
        clock.now += 1.0
        heard = clock.now - 0.5  # it streams to others
        watch.look(1.0, 5.0)
    assert not asked
    clock.now += 1.0
    watch.look(1.0, 5.0)
    assert asked == ["b1"]
    del backend.awaited[awaited]
    clock.now += 100.0
    watch.look(1.0, 5.0)
    assert asked == ["b1"]


async def test_one_that_does_not_answer_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, watch, asked = make()
    clock = Clock(monkeypatch)
    wait_at(pool.backends[0], await asked_for())
    pool.backends[0].health.probe_failed(0.0, "silence")
    for _ in range(3):
        clock.now += 0.1
        watch.look(1.0, 5.0)
    assert len(asked) == 3


def down(backend: Backend) -> None:
    for _ in range(backend.health.rules.down_after):
        backend.health.probe_failed(0.0, "no answer")


@pytest.mark.parametrize(
    ("others", "movable", "noted", "moves"),
    [
        (1, True, {}, True),
        (0, True, {}, False),
        (1, False, {}, False),
        (1, True, {"tried": ("b1", "b2")}, False),
        (1, True, {"pinned": "b1"}, False),
    ],
    ids=["another is up", "there is no other", "not repeatable", "the other one had it", "it names its backend"],
)
async def test_who_moves(others: int, movable: bool, noted: dict[str, Any], moves: bool) -> None:
    pool, watch, asked = make(1 + others)
    exchange = await asked_for(**{"tried": ("b1",), **noted})
    awaited = wait_at(pool.backends[0], exchange, movable=movable)
    down(pool.backends[0])
    watch.look(1.0, 5.0)
    assert isinstance(awaited.failure(), BackendDown) is moves
    assert not asked  # it is probed at its interval


@pytest.mark.parametrize("queued", [False, True])
async def test_who_cannot_queue_moves_only_where_a_slot_is_free(queued: bool) -> None:
    pool, watch, _ = make(2)
    pool.backends[1].slots = 1
    taken = pool.hold(pool.backends[1])
    pool.backends[1].active = 1
    exchange = await asked_for(tried=("b1",), ticket=object() if queued else None)
    awaited = wait_at(pool.backends[0], exchange)
    down(pool.backends[0])
    watch.look(1.0, 5.0)
    assert isinstance(awaited.failure(), BackendDown) is queued
    pool.backends[1].active = 0
    watch.look(1.0, 5.0)
    assert awaited.failure() is not None
    taken.give_back()


@pytest.mark.parametrize("bound", ["slots", "slots_per_model"])
async def test_of_those_who_cannot_queue_as_many_move_as_find_a_slot(bound: str) -> None:
    pool, watch, _ = make(2)
    setattr(pool.backends[1], bound, 2)
    waiting = [wait_at(pool.backends[0], await asked_for(tried=("b1",))) for _ in range(5)]
    down(pool.backends[0])
    watch.look(1.0, 5.0)
    assert [awaited.failure() is not None for awaited in waiting] == [True, True, False, False, False]


async def test_a_backend_that_was_taken_out_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, watch, asked = make()
    clock = Clock(monkeypatch)
    backend = pool.backends[0]
    wait_at(backend, await asked_for())
    clock.now += 1.0
    for _ in range(2):
        watch.look(1.0, 5.0)
    assert asked == ["b1"]  # the next question is due later
    watch.forget(backend)
    watch.look(1.0, 5.0)
    assert asked == ["b1", "b1"]
