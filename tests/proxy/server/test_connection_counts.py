"""proxy/server/connection_counts.py."""

from collections import Counter
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.server.connection_counts import UNBOUNDED, ConnectionCounts, group_of

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
