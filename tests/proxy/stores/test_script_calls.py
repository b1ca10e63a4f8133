"""proxy/stores/script_calls.py: what the scripts are given. That they do right by it is in test_redis.py."""

from proxy.kernel.quotas import Quota, Reservation
from proxy.stores.redis_url import PREFIX
from proxy.stores.script_calls import ending, member, question, reservation_keys
from tests.support.stores import START, windows

QUOTA = Quota("a", windows("5/minute", "9/day"), windows("60/minute", "70/month"), 2)
JANUARY_ENDS = int(START) + 12 * 3600


def test_every_counter_has_its_key_and_four_arguments_in_one_order() -> None:
    keys, args, counters = question([QUOTA, Quota("b", tokens=windows("80/minute"))], START)
    assert [key.removeprefix(f"{PREFIX}:") for key in keys] == [
        *("a/leases", "a/reserved", "a/60s", "a/2096-01-31", "a/tokens/60s", "a/tokens/2096-01"),
        *("b/leases", "b/reserved", "b/tokens/60s"),
    ]
    assert [tuple(args[at : at + 4]) for at in range(0, len(args), 4)] == [
        ("streams", 2, 0, 0),
        ("moving", 5, 60, 0),
        ("fixed", 9, 0, JANUARY_ENDS),
        ("tokens", 60, 1, 0),
        ("tokens", 70, 0, JANUARY_ENDS),
        ("streams", -1, 0, 0),
        ("tokens", 80, 1, 0),
    ]
    assert [(counter.quota, counter.unit, counter.amount) for counter in counters] == [
        *((0, "streams", 2), (0, "requests", 5), (0, "requests", 9), (0, "tokens", 60), (0, "tokens", 70)),
        *((1, "streams", -1), (1, "tokens", 80)),
    ]


def test_a_lease_ends_where_it_began_and_counts_in_the_windows_of_now() -> None:
    reservation = Reservation("p:1", (QUOTA, Quota("c", windows("1/minute"))), 30)
    keys, args = ending(reservation, START + 86400)
    assert keys == [*reservation_keys(QUOTA), f"{PREFIX}:a/tokens/60s", f"{PREFIX}:a/tokens/2096-02"]
    assert args == [2, 1, 0, 0, JANUARY_ENDS + 29 * 86400]
    assert member(reservation) == "p:1 30"
