"""proxy/server/connection_counts.py."""

from collections import Counter
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.shared_numbers import SharedNumbers, make_shared
from proxy.server.connection_counts import COUNTS, UNBOUNDED, ConnectionCounts, SharedCounts, group_of

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("peer", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("10.1.2.3", UNBOUNDED),
        ("::ffff:10.1.2.3", UNBOUNDED),
        ("2001:db8:1::5", UNBOUNDED),
        ("", UNBOUNDED),
        ("odd", "odd"),
    ],
)
def test_whose_connections_are_bounded_together(peer: str, group: str) -> None:
    assert group_of(peer, TRUSTED) == group


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_a_place_is_counted_until_it_is_given_back_however_often(steps: list[tuple[str, bool, bool]]) -> None:
    counts, held = ConnectionCounts(), Counter[str]()
    for group, returned, again in steps:
        place = counts.take(group)
        if returned:
            place.give_back()
            if again:
                place.give_back()
        else:
            held[group] += 1
        assert counts.total == held.total()
        assert counts.of == +held
        assert set(counts.of) == set(+held), "an address that left takes no memory"


def shared(number: int) -> list[SharedCounts]:
    """Return the counts of several processes, which share one table."""
    fd = make_shared(number, COUNTS)
    tables = [SharedNumbers(fd, rows=number, columns=COUNTS, row=row) for row in range(number)]
    return [SharedCounts(table, 0, b"key") for table in tables]


def test_processes_count_together_in_all_and_by_address() -> None:
    one, two, three = shared(3)
    places = [one.take("a"), one.take("a"), two.take("a"), two.take("b"), two.take(UNBOUNDED)]
    for counts in (one, two, three):
        assert counts.everywhere == 5
        assert (counts.everywhere_of("a"), counts.everywhere_of("b"), counts.everywhere_of("c")) == (3, 1, 0)
    assert (one.total, two.total, three.total) == (2, 3, 0)
    for place in places:
        place.give_back()
        place.give_back()
    assert [counts.everywhere for counts in (one, two, three)] == [0, 0, 0]
    assert one.everywhere_of("a") == 0


def test_none_is_left_to_one_that_accepts_no_more() -> None:
    one, two = shared(2)
    places = [one.take("a") for _ in range(5)] + [two.take("a")]
    assert (one.ahead, two.ahead) == (True, False)
    two.leave()
    assert (one.ahead, one.everywhere, one.everywhere_of("a")) == (False, 6, 6), "what it has still counts"
    for place in places:
        place.give_back()


def test_one_that_has_more_leaves_the_next_to_the_others() -> None:
    one, two = shared(2)
    seen = []
    for counts in (one, one, two):
        counts.take("a")
        seen.append(one.ahead)
    assert seen == [False, True, False]
    assert not ConnectionCounts().ahead


def test_one_that_is_gone_gets_nothing() -> None:
    one, _ = shared(2)
    one.take("a")
    one.take("a")
    one._numbers.clear(1)
    assert not one.ahead
