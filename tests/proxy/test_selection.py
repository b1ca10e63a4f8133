"""proxy/selection.py."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.selection import Candidate, least_busy

A, B, C = Candidate("a", 0), Candidate("b", 0), Candidate("c", 0)


def zero() -> float:
    return 0.0


@pytest.mark.parametrize(
    ("candidates", "tried", "expected"),
    [
        ([], [], None),
        ([A], [], ("a", "only")),
        ([A], ["a"], ("a", "only")),
        ([Candidate("a", 2), Candidate("b", 1)], [], ("b", "least_busy")),
        ([Candidate("a", 3, weight=4), Candidate("b", 1)], [], ("a", "least_busy")),
        ([Candidate("a", 0), Candidate("b", 0, weight=2)], [], ("b", "least_busy")),
        ([Candidate("a", 0), Candidate("b", 9)], ["a"], ("b", "only")),
        ([Candidate("a", 0, usable=False), Candidate("b", 9)], [], ("b", "only")),
        ([Candidate("a", 0, usable=False), Candidate("b", 9)], ["b"], ("a", "only")),
        ([Candidate("a", 1, usable=False), Candidate("b", 0, usable=False)], [], ("b", "least_busy")),
        ([Candidate("a", 1), Candidate("b", 0)], ["a", "b"], ("b", "least_busy")),
    ],
)
def test_choice(candidates: list[Candidate], tried: list[str], expected: tuple[str, str] | None) -> None:
    chosen = least_busy(candidates, tried, zero)
    assert (chosen and (chosen[0].name, chosen[1])) == expected


def test_ties_fall_at_random() -> None:
    rng = random.Random(7)
    names = {least_busy([A, B, C], [], rng.random)[0].name for _ in range(100)}  # type: ignore[index]
    assert names == {"a", "b", "c"}


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0.5, 1.0, 2.0, 4.0])), min_size=1, max_size=8))
def test_load_follows_weight(state: list[tuple[int, float]]) -> None:
    """Whoever is chosen is, with one request more, no busier for its weight than any other would be."""
    candidates = [Candidate(str(number), active, weight) for number, (active, weight) in enumerate(state)]
    chosen = least_busy(candidates, [], zero)
    assert chosen is not None
    load = (chosen[0].active + 1) / chosen[0].weight
    assert all(load <= (other.active + 1) / other.weight for other in candidates)
