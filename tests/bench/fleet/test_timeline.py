"""Numbers over time."""

from bench.fleet.timeline import between, inside, joined, most_within, spans, steps


def test_spans_begin_and_end_where_they_are_asked_to_and_have_the_numbers_of_their_time() -> None:
    changes = [*between(1.0, 3.0, "a"), *between(2.0, 9.0, "b"), *steps([(0.0, 2), (2.5, 5)], "c")]
    found = [(began, ended, now["a"], now["b"], now["c"]) for began, ended, now in spans(changes, 0.5, 4.0)]
    assert found == [
        (0.5, 1.0, 0, 0, 2),
        (1.0, 2.0, 1, 0, 2),
        (2.0, 2.5, 1, 1, 2),
        (2.5, 3.0, 1, 1, 5),
        (3.0, 4.0, 0, 1, 5),
    ]


def test_spans_that_touch_are_one() -> None:
    found = joined([(0.0, 1.0), (1.0, 2.0), (3.0, 4.0)])
    assert found == [(0.0, 2.0), (3.0, 4.0)]
    assert [inside(at, found) for at in (0.0, 1.5, 2.0, 3.5)] == [True, True, False, True]


def test_the_most_in_a_window_wherever_it_begins() -> None:
    assert most_within([0.0, 50.0, 55.0, 59.0, 60.0, 200.0], 60.0) == (4, 0.0)
    assert most_within([0.0, 50.0, 55.0, 59.0, 62.0, 63.0], 60.0) == (5, 50.0)
    assert most_within([], 60.0) == (0, 0.0)
