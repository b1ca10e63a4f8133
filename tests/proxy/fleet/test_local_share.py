"""proxy/fleet/local_share.py: the shares of all proxies add up to the slots."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet.local_share import LONG, Place, local_share


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 9))
def test_shares_add_up_to_the_slots(held: list[int], free: int) -> None:
    slots = sum(held) + free
    for lost_for in (0.0, LONG):
        shares = [
            local_share(slots, own, sum(held) - own, Place(len(held), rank), lost_for) for rank, own in enumerate(held)
        ]
        assert sum(shares) == slots
    assert max(shares) - min(shares) <= 1


def test_what_was_held_is_kept_at_first() -> None:
    assert local_share(4, 3, 1, Place(2, 0), 0.0) == 3
    assert local_share(4, 1, 3, Place(2, 1), 0.0) == 1
    assert local_share(4, 1, 3, Place(2, 1), LONG) == 2
