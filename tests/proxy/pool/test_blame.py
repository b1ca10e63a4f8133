"""proxy/pool/blame.py: through a pool, as it is used."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from proxy.kernel.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.kernel.exchange import Exchange
from proxy.pool.backend import Backend
from proxy.pool.backend_failure import failures_of
from proxy.pool.blame import AGAIN, ALIKE, WORDS, unsettled
from proxy.pool.lease import Lease
from proxy.pool.pool import Pool
from proxy.pool.request_needs import NOTHING, need_of
from proxy.testing import make_exchange, suppose
from tests.support.errors import answered, lost
from tests.support.options import health_rules, make_backend, make_pool

ENOUGH = 4


def hosts(count: int) -> Pool:
    rules = health_rules(eject_after=ENOUGH)
    backends = [make_backend(f"b{n}", f"http://127.0.0.1:{n}", rules=rules) for n in range(1, count + 1)]
    return make_pool(backends, grace=0.0)


def said(text: str = "odd", status: int = 500, about: Any = "unknown") -> UpstreamAnswer:
    return answered(status, about=about, said=text)


class Request:
    """One request of `caller`, sent where the test says."""

    def __init__(self, pool: Pool, caller: str = "a", *, pinned: str | None = None) -> None:
        self.pool = pool
        self.exchange: Exchange = make_exchange("POST", "/api/chat", body=b'{"model":"m"}')
        self.exchange.put_body(b'{"model":"m"}')
        suppose(self.exchange, identity=caller)
        suppose(self.exchange, pinned=pinned)

    def send(self, name: str, error: UpstreamError | None = None, *, status: int = 200, runs: bool = True) -> "Request":
        exchange, backend = self.exchange, self.pool.named(name)
        assert backend is not None
        lease = Lease(backend, need_of(exchange) if runs else NOTHING, freed=self.pool._news.freed)
        if error is None:
            self.pool.blame.answered(exchange, backend, status)
            lease.first_byte(served=status < 400)
        else:
            error.at(name)
        with lease:
            self.pool.outcomes.finished(exchange, lease, error)
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


async def test_but_it_is_load_unless_the_caller_named_the_host() -> None:
    pool = hosts(2)
    for _ in range(3):
        Request(pool, pinned="b1").send("b1", said(about="request")).end()
    assert pool.backends[0].busy(monotonic()) == 0
    for _ in range(3):
        Request(pool).send("b1", said(about="request")).end()
    assert pool.backends[0].busy(monotonic()) > 2


async def test_nor_does_it_clear_a_host() -> None:
    pool = hosts(2)
    for _ in range(ENOUGH):
        Request(pool).send("b1", lost()).send("b2").end()
        Request(pool, "b").send("b1", said(about="request")).end()
    assert states(pool) == ["ejected", "up"]


@pytest.mark.parametrize("first", [said(), said(status=502)], ids=repr)
async def test_the_same_error_from_two_hosts_is_the_requests(first: UpstreamAnswer) -> None:
    pool = hosts(3)
    for number in range(50):
        errors = [said(str(first.said and first.said[1]), first.status, first.about) for _ in range(2)]
        request = Request(pool, f"c{number}")
        request.send("b1", errors[0]).send("b2", errors[1]).end()
    assert states(pool) == ["up"] * 3


@pytest.mark.parametrize("about", ["host", "crash"])
async def test_unless_it_is_about_the_hosts(about: str) -> None:
    pool = hosts(3)
    for number in range(50):
        Request(pool, f"c{number}").send("b1", said(about=about)).send("b2", said(about=about)).end()
    assert states(pool) == ["ejected", "suspect", "up"]
    pool.backends[0].health.ejected_until = 0.0
    Request(pool).send("b1").end()
    for number in range(50):
        Request(pool, f"c{number}").send("b1", said(about=about)).end()
    assert pool.backends[0].health.state == "ejected"


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
        suppose(request.exchange, need=None)
        request.send("b2").end()
    assert states(pool) == ["suspect", "up"]


async def on_trial(pool: Pool) -> Backend:
    """Return b1, ejected as it was not reached, when its time is up."""
    for _ in range(ENOUGH):
        Request(pool).send("b1", ConnectFailed("refused")).end()
    sick = pool.backends[0]
    assert sick.health.state == "ejected"
    sick.health.ejected_until = 0.0
    return sick


TRIALS: Mapping[str, Callable[[Pool], object]] = {
    "same": lambda pool: Request(pool, "m").send("b1", said()).send("b2", said()).end(),
    "stale": lambda pool: Request(pool, "m").send("b1", lost(reused=True)).send("b1", lost(reused=True)).end(),
    "closed": lambda pool: Request(pool, "m").send("b1", lost(sent=False, reused=True)).end(),
    "word": lambda pool: Request(pool, "m").send("b1", said(about="host")).end(),
    "proven": lambda pool: Request(pool, "m").send("b1", said()).send("b2").end(),
    "show": lambda pool: Request(pool, "m").send("b1", runs=False).end(),
    "timeout": lambda pool: Request(pool, "m").send("b1", UpstreamTimeout("slow", timer="first_byte", sent=True)).end(),
}


@pytest.mark.parametrize("failing", TRIALS.values(), ids=TRIALS)
async def test_a_trial_that_fails_for_one_caller_ends_and_lets_the_next_one_go(
    failing: Callable[[Pool], object],
) -> None:
    pool = hosts(2)
    Request(pool, "honest").send("b2").end()
    sick = await on_trial(pool)
    for _ in range(10):
        assert sick.health.usable(monotonic())
        failing(pool)
        assert (sick.health.state, sick.health.ejections) == ("ejected", 1)
    Request(pool, "honest").send("b1").end()
    assert states(pool)[0] == "up"


async def test_a_trial_that_does_not_reach_it_ejects_it_again_at_once() -> None:
    pool = hosts(2)
    sick = await on_trial(pool)
    Request(pool).send("b1", ConnectFailed("refused")).end()
    assert (sick.health.ejections, sick.health.usable(monotonic())) == (2, False)
    assert sick.health.reason == "not reached when it was tried again: refused"


async def test_so_do_trials_that_fail_for_several() -> None:
    pool = hosts(2)
    sick = await on_trial(pool)
    for caller in "ab":
        Request(pool, caller).send("b1", said()).end()
    assert (sick.health.ejections, sick.health.usable(monotonic())) == (2, False)
    assert sick.health.reason.startswith("failed 2 requests and served none since, the last: ")


async def test_what_fails_while_it_is_out_is_no_news() -> None:
    pool = hosts(2)
    sick = await on_trial(pool)
    sick.health.eject(monotonic(), "again")
    for caller in "abcdef":
        Request(pool, caller, pinned="b1").send("b1", said()).end()
        Request(pool, caller, pinned="b1").send("b1", ConnectFailed("refused")).end()
    assert (sick.health.ejections, sick.reputation.failures) == (2, 0)


async def test_one_callers_word_makes_no_suspect_while_others_are_served() -> None:
    pool = hosts(3)
    for backend in pool.backends:
        Request(pool, "honest").send(backend.name).end()
    reached: Counter[str] = Counter()
    for number in range(400):
        for name in ("b1", "b2"):
            Request(pool, "mallory", pinned=name).send(name, said("requires more memory", about="host")).end()
        request = Request(pool, f"honest {number % 7}")
        with pool.lease(request.exchange) as lease:
            reached[lease.backend.name] += 1
            lease.first_byte()
            pool.outcomes.finished(request.exchange, lease, None)
    assert states(pool) == ["up"] * 3
    assert min(reached[name] for name in ("b1", "b2", "b3")) > 60


async def test_two_callers_words_make_one() -> None:
    pool = hosts(3)
    Request(pool, "honest").send("b1").end()
    Request(pool, "a").send("b1", lost()).end()
    assert states(pool)[0] == "up"
    Request(pool, "b").send("b1", lost())
    assert states(pool)[0] == "suspect"


async def test_what_was_said_before_it_was_down_is_forgotten_when_it_is_back() -> None:
    pool = hosts(2)
    for _ in range(ENOUGH - 1):
        Request(pool).send("b1", ConnectFailed("refused")).end()
    health = pool.backends[0].health
    for _ in range(health.rules.down_after):
        health.probe_failed(monotonic(), "refused")
    health.probe_succeeded(monotonic())
    Request(pool).send("b1", lost()).end()
    assert states(pool) == ["suspect", "up"]


async def test_who_is_alone_needs_no_second_caller_once_another_host_served_the_model() -> None:
    pool = hosts(2)
    for _ in range(ENOUGH):
        Request(pool).send("b1", said(about="host")).end()
        Request(pool).send("b2").end()
    assert states(pool) == ["ejected", "up"]
    pool.backends[0].health.ejected_until = 0.0
    for _ in range(AGAIN):
        Request(pool).send("b1", said(about="host")).end()
        Request(pool).send("b2").end()
    assert pool.backends[0].health.ejections == 2


async def test_in_an_hour_of_a_lone_caller_few_requests_meet_a_sick_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is retried; a request every 2 s, a good probe every 5 s; residency and conversations decide nothing."""
    clock = 1000.0
    for module in ("blame", "outcome_recorder", "pool", "lease"):
        monkeypatch.setattr(f"proxy.pool.{module}.monotonic", lambda: clock)
    backends = [make_backend(f"b{n}", f"http://127.0.0.1:{n}") for n in (1, 2)]
    pool = make_pool(backends, grace=0.0, prefer=("least_busy",))
    failed = 0
    for second in range(3600):
        clock += 1.0
        if second % 5 == 0:
            for backend in backends:
                backend.health.probe_succeeded(clock)
        if second % 2 == 0:
            request = Request(pool)
            with pool.lease(request.exchange) as lease:
                sick = lease.backend.name == "b1"
                failed += sick
                if not sick:
                    lease.first_byte()
                pool.outcomes.finished(request.exchange, lease, said(about="host") if sick else None)
            request.end()
    assert failed < 25


async def test_who_is_not_alone_does_and_so_does_what_two_hosts_fail() -> None:
    pool = hosts(2)
    Request(pool, "somebody else").send("b2").end()
    for _ in range(3 * ENOUGH):
        Request(pool).send("b1", said(about="host")).end()
        Request(pool).send("b2").end()
    assert "ejected" not in states(pool)
    pool = hosts(3)
    for _ in range(3 * ENOUGH):
        Request(pool).send("b1", lost()).send("b2", lost()).end()
        Request(pool).send("b3").end()
    assert "ejected" not in states(pool)


async def test_few_words_are_kept() -> None:
    pool = hosts(1)
    for number in range(3 * WORDS):
        Request(pool, f"c{number}").send("b1", lost()).end()
    for _ in range(3 * WORDS):
        Request(pool).send("b1", lost()).end()
    assert len(pool.blame._words) == WORDS
    assert max(map(len, pool.blame._words.values())) <= WORDS


async def test_only_where_a_model_ran_it_served() -> None:
    pool = hosts(2)
    for _ in range(ENOUGH):
        Request(pool).send("b1", said()).send("b2").end()
        Request(pool, "b").send("b1", runs=False).end()
        Request(pool, "b").send("b1", status=400).end()
    assert states(pool) == ["ejected", "up"]


async def test_a_success_wipes_out_what_is_forgiven_later() -> None:
    pool = hosts(2)
    early = Request(pool)
    early.send("b1", lost())
    Request(pool).send("b1").end()
    Request(pool).send("b1", lost()).end()
    early.pool.blame._forgive(early.exchange, failures_of(early.exchange)[0], monotonic())
    assert (states(pool)[0], pool.backends[0].health.failures) == ("suspect", 1)


KINDS = st.sampled_from(
    ["content", "same", "word", "lost", "proven", "poison", "timeout", "stale", "show", "served", "trial", "down"]
)
HISTORY = st.lists(st.tuples(st.sampled_from(["b1", "b2", "b3"]), KINDS), max_size=60)


@settings(max_examples=60)
@given(HISTORY, st.integers(1, 8))
def test_no_history_of_one_caller_ejects_a_host_that_serves_others(history: list[tuple[str, str]], every: int) -> None:
    """Nor does it make one a suspect, or load, or keeps one out that was ejected with reason."""

    async def run() -> None:
        pool = hosts(3)
        for backend in pool.backends:
            Request(pool, "honest").send(backend.name).end()
        for number, (name, kind) in enumerate(history):
            other = "b2" if name != "b2" else "b3"
            request = Request(pool, "mallory", pinned=name)
            backend = next(one for one in pool.backends if one.name == name)
            match kind:
                case "stale":
                    request.send(name, lost(reused=True)).send(name, lost(reused=True))
                case "show":
                    request.send(name, runs=False)
                case "served":
                    request.send(name)
                case "trial":
                    if "ejected" not in states(pool):
                        backend.health.eject(monotonic(), "with reason")
                    backend.health.ejected_until = 0.0
                case "down":
                    if backend.health.state != "ejected":
                        for _ in range(backend.health.rules.down_after):
                            backend.health.probe_failed(monotonic(), "refused")
                        backend.health.probe_succeeded(monotonic())
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
            assert {"suspect", "down"}.isdisjoint(states(pool))
            for one in pool.backends:
                assert one.health.usable(monotonic())
                assert one.health.reason in ("with reason", "serves again", "answers again", "not asked yet")
                assert one.busy(monotonic()) == 0
        for one in pool.backends:
            Request(pool, "honest").send(one.name).end()
        assert states(pool) == ["up"] * 3

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
    assert [failure.host.name for failure in failures_of(request.exchange)] == ["b1"]
    assert not unsettled(request.exchange)


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
