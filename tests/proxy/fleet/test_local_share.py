"""proxy/fleet/local_share.py: the shares of all proxies add up to the slots."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet.local_share import ALONE, LONGEST, QUIET, SHORTEST, Place, local_share

SOON = QUIET + SHORTEST


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 9))
def test_shares_add_up_to_no_more_than_the_slots_and_soon_to_all_of_them(held: list[int], free: int) -> None:
    slots = sum(held) + free
    at_first, then, soon = (
        [
            local_share(slots, own, sum(held) - own, Place(len(held), rank), lost_for, 0.0)
            for rank, own in enumerate(held)
        ]
        for lost_for in (0.0, QUIET, SOON)
    )
    assert at_first == held
    assert sum(then) <= slots == sum(soon)
    assert max(soon) - min(soon) <= 1
    assert all(before <= after for before, after in zip(then, soon, strict=True))


def test_who_held_little_waits_for_what_the_others_still_run() -> None:
    assert [local_share(4, held, 4 - held, Place(2, rank), QUIET, 0.0) for rank, held in enumerate((3, 1))] == [2, 1]
    assert [local_share(4, held, 4 - held, Place(2, rank), SOON, 0.0) for rank, held in enumerate((3, 1))] == [2, 2]


def test_who_never_saw_the_others_waits_for_them_first() -> None:
    assert [local_share(4, 0, 0, None, lost_for, 0.0) for lost_for in (0.0, QUIET, ALONE)] == [0, 0, 4]


def test_the_longer_requests_take_the_longer_it_waits() -> None:
    place = Place(2, 1)
    assert [local_share(4, 0, 4, place, QUIET + 8.0, usual) for usual in (3.0, 4.0, 5.0)] == [2, 2, 0]
    assert local_share(4, 0, 4, place, QUIET + LONGEST, 600.0) == 2
