"""proxy/pool/busy_runners.py."""

from random import Random

import pytest

from proxy.pool.busy_runners import REMEMBERED, BusyRunners, Departure

LEAST, MOST, USUAL = 0.5, 15.0, 1.0


def held(busy: BusyRunners, *, running: float = 0.2, usual: float | None = USUAL) -> float:
    return busy.hold("m", running=running, usual=usual, least=LEAST, most=MOST)


def next_one(busy: BusyRunners, *, hold: float, busy_for: float, later: float = 0.0, prompt: float = USUAL) -> bool:
    """A client leaves at 0, its slot is held, and the next request is sent `later` than it was given back."""
    busy.freed("m", Departure(0.0, hold))
    before, sent_at = busy.sent("m"), hold + later
    assert before is not None
    assert busy.sent("m") is None
    now = max(sent_at, busy_for) + prompt
    return busy.answered("m", before, sent_at=sent_at, now=now, usual=USUAL, most=MOST)


@pytest.mark.parametrize(
    ("running", "usual", "seconds"),
    [(0.2, None, LEAST), (0.2, 1.0, 0.8), (0.9, 1.0, LEAST), (5.0, 1.0, LEAST), (1.0, 100.0, MOST)],
)
def test_before_anything_was_learned_it_is_held_until_the_answer_would_have_begun(
    running: float, usual: float | None, seconds: float
) -> None:
    assert held(BusyRunners(), running=running, usual=usual) == pytest.approx(seconds)


def test_the_first_answer_that_is_late_says_how_long_the_runner_was_busy() -> None:
    busy = BusyRunners()
    assert next_one(busy, hold=LEAST, busy_for=5.0)
    assert busy.expected("m") == pytest.approx(5.0)
    assert held(busy) == pytest.approx(5.0)
    assert busy.expected("n") is None


def test_it_is_never_held_longer_than_the_most() -> None:
    busy = BusyRunners()
    assert next_one(busy, hold=LEAST, busy_for=100.0)
    assert held(busy) == MOST


@pytest.mark.parametrize("batch", [0.0, 3.0, 8.0])
def test_it_comes_near_the_time_that_the_runner_is_busy(batch: float) -> None:
    busy = BusyRunners()
    next_one(busy, hold=LEAST, busy_for=12.0)
    for _ in range(60):
        next_one(busy, hold=held(busy), busy_for=batch)
    assert max(LEAST, 0.5 * batch) <= held(busy) <= max(LEAST, 1.2 * batch)


def test_where_batches_end_at_any_time_it_waits_no_longer_than_it_saves() -> None:
    """The time for which slots are held in vain, against the time for which they are given back too early."""
    busy, random = BusyRunners(), Random(1)
    vain = early = 0.0
    for _ in range(400):
        hold, left = held(busy), random.uniform(0.0, 10.0)
        vain += max(0.0, hold - left)
        early += max(0.0, left - hold)
        next_one(busy, hold=hold, busy_for=left)
    assert 0.2 < vain / early < 2.0


def test_a_request_that_is_sent_much_later_says_nothing() -> None:
    busy = BusyRunners()
    assert not next_one(busy, hold=LEAST, busy_for=0.0, later=5.0, prompt=60.0)
    assert busy.expected("m") is None
    next_one(busy, hold=LEAST, busy_for=5.0)
    assert not next_one(busy, hold=5.0, busy_for=0.0, later=100.0)
    assert busy.expected("m") == pytest.approx(5.0)


def test_only_so_many_models_are_remembered() -> None:
    busy = BusyRunners()
    for number in range(REMEMBERED + 5):
        busy.freed(f"m{number}", Departure(0.0, 0.5))
    assert busy.sent("m0") is None
    assert busy.sent(f"m{REMEMBERED}") is not None
