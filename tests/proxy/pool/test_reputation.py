"""proxy/pool/reputation.py."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.pool.reputation import CALLERS, GOOD_WORD, Reputation, Served

ENOUGH = 5


def weight(reputation: Reputation, now: float = 100.0) -> float:
    return reputation.weight(ENOUGH, now)


def test_that_it_was_not_reached_is_nobodys_word() -> None:
    reputation = Reputation()
    for _ in range(ENOUGH):
        reputation.unreached()
    assert weight(reputation) == ENOUGH


def test_one_callers_word_counts_half() -> None:
    reputation = Reputation()
    for _ in range(100):
        reputation.failed("a", 1.0, proven=False)
    assert weight(reputation) == ENOUGH / 2
    for _ in range(3):
        reputation.failed("b", 1.0, proven=False)
    assert weight(reputation) == ENOUGH


def test_what_others_answered_counts_as_long_as_nobody_else_was_served_here() -> None:
    reputation = Reputation()
    reputation.served("a", 0.0)
    for _ in range(ENOUGH):
        reputation.failed("a", 1.0, proven=True)
    assert weight(reputation) == ENOUGH
    reputation = Reputation()
    reputation.served("b", 0.0)
    reputation.served("a", 0.5)
    for _ in range(ENOUGH):
        reputation.failed("a", 1.0, proven=True)
    assert weight(reputation) == ENOUGH / 2
    assert weight(reputation, GOOD_WORD + 1.0) == ENOUGH


def test_who_is_served_ends_what_was_said_and_what_failed_before_is_old() -> None:
    reputation = Reputation()
    reputation.unreached()
    reputation.failed("a", 1.0, proven=True)
    reputation.served("a", 2.0)
    assert weight(reputation) == 0
    assert not reputation.failed("a", 1.5, proven=True)
    assert weight(reputation) == 0
    assert "0 times" in repr(reputation)


def test_however_many_call_little_is_remembered() -> None:
    reputation = Reputation()
    for number in range(1000):
        reputation.failed(f"c{number}", 1.0, proven=False)
    assert len(reputation._said) == CALLERS


def test_what_another_host_answers_later_is_proven_then() -> None:
    reputation = Reputation()
    for _ in range(ENOUGH):
        reputation.failed("a", 1.0, proven=False)
    for _ in range(2 * ENOUGH):
        reputation.proven("a")
        reputation.proven("b")
    assert (weight(reputation), reputation.failures) == (ENOUGH, ENOUGH)


def test_who_was_served_elsewhere_counts_where_that_is_asked_for() -> None:
    reputation, elsewhere = Reputation(), Served()
    elsewhere.note("b", 0.0)
    for _ in range(ENOUGH):
        reputation.failed("a", 1.0, proven=True)
    assert weight(reputation) == ENOUGH
    assert reputation.weight(ENOUGH, 100.0, elsewhere=elsewhere) == ENOUGH / 2


def test_one_callers_word_is_dubious_while_another_was_served() -> None:
    reputation = Reputation()
    assert reputation.dubious("a", 0.0)
    reputation.served("b", 0.0)
    reputation.failed("a", 1.0, proven=True)
    assert not reputation.dubious("a", 1.0)
    assert reputation.dubious("b", 1.0)
    assert reputation.dubious("a", GOOD_WORD + 1.0)


STEPS = st.lists(st.sampled_from(["word", "proven", "served by a", "served by b"]), max_size=80)


@given(STEPS)
def test_no_history_of_one_caller_is_enough_while_another_is_served(steps: list[str]) -> None:
    reputation = Reputation()
    reputation.served("b", 0.0)
    for at, step in enumerate(steps, 1):
        if step.startswith("served"):
            reputation.served(step[-1], float(at))
        else:
            reputation.failed("a", float(at), proven=step == "proven")
        assert reputation.weight(ENOUGH, float(at)) < ENOUGH


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=3 * ENOUGH), st.integers(1, 20))
def test_who_fails_for_everybody_is_found_out_soon(failures: list[tuple[str, bool]], enough: int) -> None:
    reputation = Reputation()
    for caller in "abc":
        reputation.served(caller, 0.0)
    for caller, proven in [*failures, *[(caller, False) for caller in "abc" for _ in range(enough)]]:
        reputation.failed(caller, 1.0, proven=proven)
    assert reputation.weight(enough, 1.0) >= enough
