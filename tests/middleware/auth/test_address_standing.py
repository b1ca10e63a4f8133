import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from middleware.auth import address_standing as standing_module
from middleware.auth.address_standing import Buckets, Standing
from middleware.auth.provider_queue import Rank
from proxy.kernel.log_throttle import LOGGED_PER_SECOND
from proxy.kernel.units import Rate
from proxy.testing import ManualClock

RATE = Rate.parse("3/minute")


def test_so_many_at_once_and_then_evenly() -> None:
    clock = ManualClock()
    buckets = Buckets(RATE, clock)
    assert [buckets.spend("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.wait("a") == 20
    assert buckets.wait("b") == 0
    clock.advance(20)
    assert buckets.wait("a") == 0
    assert [buckets.spend("a") for _ in range(2)] == [True, False]
    clock.set(0)  # the calendar has nothing to say
    assert buckets.wait("a") == 20


@given(st.lists(st.floats(0, 30), max_size=60))
def test_no_window_has_more_than_twice_the_amount(pauses: list[float]) -> None:
    """What a bucket promises: its amount, and as much as comes back meanwhile."""
    clock = ManualClock()
    buckets = Buckets(RATE, clock)
    spent: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        if buckets.spend("a"):
            spent.append(clock.monotonic())
        assert len([then for then in spent if clock.monotonic() - then < 60]) <= 6


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_module, "REMEMBERED", 10)
    clock = ManualClock()
    standing = Standing(Rate.parse("1/minute"), clock)
    for number in range(100):
        for _ in range(3):
            standing.wrong(f"192.0.2.{number}", "key", "unknown")
        standing.asked_in_vain(f"192.0.2.{number}")
        standing.good(f"192.0.2.{number}")
    assert standing._wrong is not None
    sizes = [len(memory) for memory in (standing._wrong, standing._asked, standing._good, standing._told)]
    assert sizes == [10] * 4


def test_an_address_is_told_to_wait_and_its_neighbours_are_not() -> None:
    standing = Standing(RATE, ManualClock())
    assert [standing.wrong("192.0.2.1", "key", "unknown") for _ in range(4)] == [0, 0, 0, 20]
    assert standing.wrong("192.0.2.2", "key", "unknown") == 0
    for number in range(3):
        standing.wrong(f"2001:db8::{number}", "key", "unknown")
    assert standing.wrong("2001:db8::ffff:1", "key", "unknown") == 20  # the same /64
    assert standing.wrong("2001:db8:0:1::1", "key", "unknown") == 0


def test_questions_in_vain_have_a_bound_of_their_own() -> None:
    standing = Standing(RATE, ManualClock())
    for _ in range(3):
        standing.wrong("192.0.2.1", "key", "unknown")
    assert standing.wait_to_ask("192.0.2.1") == 0
    for _ in range(5):  # those that were on their way when it was used up are owed
        standing.asked_in_vain("192.0.2.1")
    assert standing.wait_to_ask("192.0.2.1") == 60


def test_without_a_bound_nobody_waits() -> None:
    standing = Standing(None, ManualClock())
    for _ in range(100):
        standing.asked_in_vain("192.0.2.1")
        assert standing.wrong("192.0.2.1", "key", "unknown") == 0
    assert standing.wait_to_ask("192.0.2.1") == 0
    assert standing.rank("192.0.2.1") is Rank.DOUBTED  # but others go first


def test_who_goes_first() -> None:
    clock = ManualClock()
    standing = Standing(RATE, clock)
    assert standing.rank("192.0.2.1") is Rank.NEW
    standing.good("192.0.2.1")
    assert standing.rank("192.0.2.1") is Rank.TRUSTED
    standing.asked_in_vain("192.0.2.1")
    assert standing.rank("192.0.2.1") is Rank.NEW
    standing.asked_in_vain("192.0.2.2")
    assert standing.rank("192.0.2.2") is Rank.DOUBTED
    clock.advance(20)
    assert standing.rank("192.0.2.2") is Rank.NEW


def test_it_is_logged_once_a_minute_of_each_address_and_not_too_often_in_all() -> None:
    clock = ManualClock()
    standing = Standing(Rate.parse("1/minute"), clock)
    with capture_logs() as logs:
        for _ in range(50):
            standing.wrong("192.0.2.1", "opaque", "unknown")
        assert [(log["event"], log["client_address"], log["credential"], log["reason"]) for log in logs] == [
            ("wrong_credentials", "192.0.2.1", "opaque", "unknown")
        ]
        for number in range(2, 32):
            for _ in range(2):
                standing.wrong(f"192.0.2.{number}", "key", "unknown")
        assert len(logs) == LOGGED_PER_SECOND
        clock.advance(60)
        for _ in range(2):
            standing.wrong("192.0.2.1", "key", "unknown")
    assert logs[-1]["left_out"] == 31 - LOGGED_PER_SECOND
