"""proxy/blame.py: through a pool, as it is used."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from proxy.backend import Backend, make_backend
from proxy.blame import ALIKE
from proxy.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.exchange import Exchange
from proxy.health import Rules
from proxy.pool import Pool, PoolOptions
from tests.support.asgi import make_exchange

ENOUGH = 4


def hosts(count: int) -> Pool:
    rules = Rules(eject_after=ENOUGH)
    backends = [make_backend(f"b{n}", f"http://127.0.0.1:{n}", rules=rules) for n in range(1, count + 1)]
    return Pool(backends, PoolOptions(grace=0.0))


def said(text: str = "odd", status: int = 500, about: Any = "unknown") -> UpstreamAnswer:
    return UpstreamAnswer(status, [], b"", busy=False, missing=False, about=about, said=text)


def lost(*, sent: bool = True, reused: bool = False) -> ConnectionLost:
    return ConnectionLost("reset", sent=sent, reused=reused)


class Request:
    """One request of `caller`, sent where the test says."""

    def __init__(self, pool: Pool, caller: str = "a") -> None:
        self.pool = pool
        self.exchange: Exchange = make_exchange("POST", "/api/chat", body=b'{"model":"m"}')
        self.exchange.identity = caller

    def send(self, name: str, error: UpstreamError | None = None, *, status: int = 200) -> "Request":
        exchange, backend = self.exchange, self.pool.named(name)
        assert backend is not None
        lease = self.pool.hold(backend)
        if error is None:
            self.pool.blame.answered(exchange, backend, status)
            lease.first_byte(served=status < 400)
        else:
            error.at(name)
        with lease:
            self.pool.finished(exchange, lease, error)
        return self

    def end(self) -> None:
        for finish in self.exchange.finishers():
            finish(self.exchange)


def states(pool: Pool) -> list[str]:
    return [backend.health.state for backend in pool.backends]


async def test_an_error_about_the_content_is_no_hosts_fault() -> None:
    pool = hosts(2)
    for _ in range(50):
        Request(pool).send("b1", said(about="request")).end()
    assert states(pool) == ["up", "up"]
    assert pool.backends[0].last_error is None
    assert pool.backends[0].busy(0.0) == 0


async def test_nor_does_it_clear_a_host() -> None:
    pool = hosts(2)
    for _ in range(ENOUGH):
        Request(pool).send("b1", lost()).send("b2").end()
        Request(pool, "b").send("b1", said(about="request")).end()
    assert states(pool) == ["ejected", "up"]


@pytest.mark.parametrize("first", [said(), said(status=502), said(about="crash"), said(about="host")], ids=repr)
async def test_the_same_error_from_two_hosts_is_the_requests(first: UpstreamAnswer) -> None:
    pool = hosts(3)
    for number in range(50):
        errors = [said(str(first.said and first.said[1]), first.status, first.about) for _ in range(2)]
        request = Request(pool, f"c{number}")
        request.send("b1", errors[0]).send("b2", errors[1]).end()
    assert states(pool) == ["up"] * 3


async def test_what_another_host_answers_well_was_the_hosts() -> None:
    pool = hosts(2)
    for number in range(ENOUGH):
        request = Request(pool)
        request.send("b1", said())
        assert pool.backends[0].health.failures == number  # nothing is decided before the next one has answered
        request.send("b2").end()
    assert states(pool) == ["ejected", "up"]


async def test_an_error_that_another_host_answers_with_a_refusal_is_the_requests() -> None:
    pool = hosts(2)
    for _ in range(ENOUGH):
        Request(pool).send("b1", said()).send("b2", status=400).end()
    assert states(pool) == ["up", "up"]


async def test_that_it_answers_the_same_request_later_itself_proves_nothing() -> None:
    pool = hosts(2)
    for _ in range(3 * ENOUGH):
        Request(pool).send("b1", said()).send("b1").end()
    assert states(pool) == ["up", "up"]


FAILURES: Sequence[Callable[[], UpstreamError]] = [
    said,
    lambda: said(about="host"),
    lost,
    lambda: BadAnswer("junk", sent=True, received=True),
    lambda: UpstreamTimeout("slow", timer="first_byte", sent=True),
    lambda: UpstreamAnswer(502, [], b"<html>", busy=False, missing=False),
]


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_nobody_else_was_asked_is_one_callers_word(failure: Callable[[], UpstreamError]) -> None:
    pool = hosts(2)
    for _ in range(50):
        Request(pool).send("b1", failure()).end()
    assert states(pool) == ["suspect", "up"]
    for _ in range(ENOUGH // 2):
        Request(pool, "b").send("b1", failure()).end()
    assert states(pool) == ["ejected", "up"]


async def test_a_host_that_is_not_reached_needs_no_second_word() -> None:
    pool = hosts(2)
    for _ in range(ENOUGH):
        Request(pool).send("b1", ConnectFailed("refused")).end()
    assert states(pool) == ["ejected", "up"]


async def test_a_connection_that_was_closed_before_a_byte_was_written_is_nothing() -> None:
    pool = hosts(2)
    for _ in range(50):
        request = Request(pool)
        for _ in range(5):
            error = lost(sent=False, reused=True)
            request.send("b1", error)
            assert not error.spent
        request.end()
    assert states(pool) == ["up", "up"]


async def test_one_that_was_lost_on_a_kept_connection_makes_no_suspect_by_itself() -> None:
    pool = hosts(2)
    request = Request(pool)
    request.send("b1", lost(reused=True))
    assert states(pool) == ["up", "up"]
    request.send("b1").end()
    assert states(pool) == ["up", "up"]


async def test_what_broke_two_hosts_is_sent_nowhere_and_ejects_neither() -> None:
    pool = hosts(3)
    with capture_logs() as log:
        for _ in range(50):
            first, second = lost(), lost(reused=True)
            request = Request(pool, "mallory")
            request.send("b1", first).send("b2", second)
            assert (first.spent, second.spent) == (False, True)
            assert (second.code, second.status) == ("suspected_poison", 502)
            assert "b1 and b2" in second.message
            with pytest.raises(ConnectionLost) as refused:
                pool.blame.check(request.exchange)
            assert refused.value.code == "suspected_poison"
            request.end()
    assert "ejected" not in states(pool)
    assert [event["event"] for event in log] == ["suspected_poison"] * 50
    assert (log[0]["identity"], log[0]["backends"]) == ("mallory", ["b1", "b2"])


async def test_one_host_twice_is_no_poison_but_enough() -> None:
    pool = hosts(1)
    second = lost()
    Request(pool).send("b1", lost(reused=True)).send("b1", second).end()
    assert second.spent
    assert second.code == "upstream_connection_lost"


async def test_a_runner_that_dies_is_a_host_that_breaks() -> None:
    pool = hosts(3)
    second = said("terminated", about="crash")
    Request(pool).send("b1", lost()).send("b2", second).end()
    assert second.spent
    assert second.code == "suspected_poison"


async def test_an_error_about_another_model_proves_nothing() -> None:
    pool = hosts(2)
    for _ in range(2 * ENOUGH):
        request = Request(pool)
        request.send("b1", said())
        request.exchange.put_body(b'{"model":"n"}')
        request.exchange.need = None
        request.send("b2").end()
    assert states(pool) == ["suspect", "up"]


KINDS = st.sampled_from(["content", "same", "word", "lost", "proven", "poison", "timeout"])
HISTORY = st.lists(st.tuples(st.sampled_from(["b1", "b2", "b3"]), KINDS), max_size=60)


@settings(max_examples=60)
@given(HISTORY, st.integers(1, 8))
def test_no_history_of_one_caller_ejects_a_host_that_serves_others(history: list[tuple[str, str]], every: int) -> None:
    async def run() -> None:
        pool = hosts(3)
        for backend in pool.backends:
            Request(pool, "honest").send(backend.name).end()
        for number, (name, kind) in enumerate(history):
            other = "b2" if name != "b2" else "b3"
            request = Request(pool, "mallory")
            match kind:
                case "content":
                    request.send(name, said(about="request"))
                case "same":
                    request.send(name, said()).send(other, said())
                case "word":
                    request.send(name, said())
                case "lost":
                    request.send(name, lost())
                case "proven":
                    request.send(name, said()).send(other)
                case "poison":
                    request.send(name, lost()).send(other, lost(reused=True))
                case "timeout":
                    request.send(name, UpstreamTimeout("slow", timer="first_byte", sent=True))
            request.end()
            if number % every == 0:
                Request(pool, "honest").send(other).end()
            assert "ejected" not in states(pool)

    asyncio.run(run())


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans(), st.booleans()), min_size=2, max_size=10))
def test_a_host_that_fails_for_everybody_is_ejected_soon(history: list[tuple[str, bool, bool]]) -> None:
    async def run() -> None:
        pool = hosts(2)
        for caller in "abc":
            Request(pool, caller).send("b1").end()
        rest = [(caller, False, False) for _ in range(ENOUGH // 2) for caller in ("a", "b")]
        for caller, breaks, elsewhere in [*history, *rest]:
            request = Request(pool, caller)
            request.send("b1", lost() if breaks else said())
            if elsewhere:
                request.send("b2")
            request.end()
        assert states(pool) == ["ejected", "up"]

    asyncio.run(run())


async def test_nothing_is_held_of_a_request_that_is_over() -> None:
    pool = hosts(2)
    request = Request(pool)
    request.send("b1", said()).send("b2").end()
    assert all(failure.settled for failure in request.exchange.failed)
    assert all(isinstance(failure.host, Backend) for failure in request.exchange.failed)


async def test_an_error_that_two_hosts_gave_is_remembered_until_a_host_proves_better() -> None:
    pool = hosts(2)
    Request(pool).send("b1", said()).send("b2", said()).end()
    for caller in "abcabc":
        Request(pool, caller).send("b1", said()).end()  # nobody else was asked, as there was no budget for it
    assert states(pool) == ["up", "up"]
    Request(pool).send("b1", said()).send("b2").end()
    for caller in "bcbc":
        Request(pool, caller).send("b1", said()).end()
    assert states(pool) == ["ejected", "up"]


async def test_the_errors_remembered_are_few() -> None:
    pool = hosts(2)
    for number in range(26 * 26):
        text = f"odd {chr(97 + number // 26)} {chr(97 + number % 26)}"
        Request(pool).send("b1", said(text)).send("b2", said(text)).end()
    assert len(pool.blame._alike) == ALIKE
