"""Build the keys and arguments of the scripts in ``scripts/``; the head of each script explains them."""

from collections.abc import Sequence
from typing import NamedTuple

from proxy.kernel.quotas import Quota, Reservation, Unit, Window
from proxy.stores.redis_url import PREFIX

Arguments = list[str | int | float]


class Counter(NamedTuple):
    """A counter in a question to the Redis server: the members of its `Level` that do not depend on the reply.

    `amount` is -1 for reservations that are limited in tokens only, not in number.
    """

    quota: int
    unit: Unit
    amount: int
    window: Window | None = None


class Question(NamedTuple):
    """Keys and arguments of the quotas for ``admit``, and their counters in the same order."""

    keys: list[str]
    args: Arguments
    counters: list[Counter]


def question(quotas: Sequence[Quota], now: float) -> Question:
    """Return what to ask ``admit`` at `now` (seconds since 1970); the arguments follow its fixed ones."""
    keys: list[str] = []
    args: Arguments = []
    counters: list[Counter] = []
    for number, quota in enumerate(quotas):
        if quota.reserves:
            amount = -1 if quota.streams is None else quota.streams
            keys += reservation_keys(quota)
            args += ["streams", amount, 0, 0]
            counters.append(Counter(number, "streams", amount))
        for window in quota.requests:
            place, ends = window.place(now)
            keys.append(f"{PREFIX}:{window.key_for(quota.key, place)}")
            args += (
                ["moving", window.amount, window.rate.per, 0]
                if ends is None
                else ["fixed", window.amount, 0, int(ends)]
            )
            counters.append(Counter(number, "requests", window.amount, window))
        for window in quota.tokens:
            place, ends = window.place(now)
            keys.append(_tokens_key(quota, place))
            args += ["tokens", window.amount, window.slice, int(ends or 0)]
            counters.append(Counter(number, "tokens", window.amount, window))
    return Question(keys, args, counters)


def ending(reservation: Reservation, now: float) -> tuple[list[str], Arguments]:
    """Return the keys and arguments of ``settle`` at `now` (seconds since 1970), behind its fixed arguments."""
    keys: list[str] = []
    args: Arguments = []
    for quota in reservation.quotas:
        if quota.reserves:
            keys += reservation_keys(quota)
            args.append(len(quota.tokens))
            for window in quota.tokens:
                place, ends = window.place(now)
                keys.append(_tokens_key(quota, place))
                args += [window.slice, int(ends or 0)]
    return keys, args


def reservation_keys(quota: Quota) -> list[str]:
    """Return the key of the reservations of `quota`, and the key of the sum of their tokens."""
    return [f"{PREFIX}:{quota.key}/leases", f"{PREFIX}:{quota.key}/reserved"]


def member(reservation: Reservation) -> str:
    """Return the member for `reservation` in the set of reservations; it contains the tokens of the reservation."""
    return f"{reservation.id} {reservation.tokens}"


def _tokens_key(quota: Quota, place: str) -> str:
    return f"{PREFIX}:{quota.key}/tokens/{place}"
