"""What every store must do: one suite, run by the tests of each, and a model for the property test."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import floor

import pytest
from hypothesis import strategies as st

from proxy.kernel.quotas import SLICES, Admission, Level, Quota, Reservation, Window
from proxy.kernel.store import Store
from proxy.kernel.units import Rate
from proxy.testing import ManualClock

START = datetime(2096, 1, 31, 12, tzinfo=UTC).timestamp()
"""Far ahead, as a server forgets by its own clock what a manual one says is over."""


def windows(*rates: str) -> tuple[Window, ...]:
    return tuple(Window(Rate.parse(rate)) for rate in rates)


async def settle(store: Store, reservation: Reservation | None, tokens: int = 0) -> None:
    assert reservation is not None
    done = store.settle(reservation, tokens)
    if done is not None:
        await done


async def used(store: Store, quota: Quota) -> list[int]:
    return [level.used for level in await store.look([quota])]


class StoreContract:
    """Inherited by the test class of each store, which provides the fixtures `store` and `clock`."""

    async def test_a_moving_window_lets_the_amount_through_and_takes_nothing_for_refusals(
        self, store: Store, clock: ManualClock
    ) -> None:
        quota = Quota("q", requests=windows("2/minute"))
        first = await store.admit([quota])
        assert first == Admission((Level(0, "requests", 2, 1, 60.0, quota.requests[0]),))
        clock.advance(20)
        assert not (await store.admit([quota])).full
        for _ in range(5):
            refused = await store.admit([quota])
            assert [(level.used, round(level.resets_in, 2)) for level in refused.full] == [(2, 40.0)]
        clock.advance(40.01)
        assert not (await store.admit([quota])).full
        assert (await store.admit([quota])).full
        clock.advance(20)
        assert not (await store.admit([quota])).full

    async def test_a_day_ends_at_midnight_utc(self, store: Store, clock: ManualClock) -> None:
        quota = Quota("q", requests=windows("1/day"), tokens=windows("100/day"))
        admission = await store.admit([quota], 60)
        assert [round(level.resets_in) for level in admission.levels] == [12 * 3600, 12 * 3600]
        await settle(store, admission.reservation, 100)
        clock.advance(12 * 3600 - 1)
        refused = await store.admit([quota], 60)
        assert [(level.unit, round(level.resets_in)) for level in refused.full] == [("requests", 1), ("tokens", 1)]
        clock.advance(1.01)
        assert await used(store, quota) == [0, 0]
        assert not (await store.admit([quota], 60)).full

    async def test_a_month_ends_with_the_month(self, store: Store, clock: ManualClock) -> None:
        quota = Quota("q", requests=windows("1/month"), tokens=windows("100/month"))
        admission = await store.admit([quota], 1)
        assert [round(level.resets_in) for level in admission.levels] == [12 * 3600] * 2  # it is January 31
        await settle(store, admission.reservation, 50)
        clock.advance(13 * 3600)
        assert await used(store, quota) == [0, 0]
        admission = await store.admit([quota], 1)
        await settle(store, admission.reservation, 70)
        clock.advance(28 * 86400)  # February 29
        assert await used(store, quota) == [1, 70]
        clock.advance(86400)
        assert await used(store, quota) == [0, 0]

    async def test_all_counters_take_a_request_or_none(self, store: Store, clock: ManualClock) -> None:
        roomy = Quota("a", requests=windows("5/minute", "100/day"), tokens=windows("1000/minute"), streams=5)
        tight = Quota("b", requests=windows("1/minute"))
        assert not (await store.admit([roomy, tight], 10)).full
        for _ in range(3):
            refused = await store.admit([roomy, tight], 10)
            assert [(level.quota, level.unit) for level in refused.full] == [(1, "requests")]
            assert refused.reservation is None
        assert await used(store, roomy) == [1, 1, 1, 10]
        assert await used(store, tight) == [1]

    async def test_tokens_are_reserved_then_counted_as_they_were(self, store: Store, clock: ManualClock) -> None:
        quota = Quota("q", tokens=windows("100/minute"))
        first = await store.admit([quota], 60)
        second = await store.admit([quota], 60)
        assert [level.used for level in second.levels] == [120]
        assert [(level.used, level.resets_in) for level in (await store.admit([quota], 60)).full] == [(120, 0)]
        await settle(store, first.reservation, 10)
        third = await store.admit([quota], 60)
        assert [level.used for level in third.levels] == [130]
        await settle(store, second.reservation, 0)
        await settle(store, third.reservation, 95)
        assert await used(store, quota) == [105]
        (full,) = (await store.admit([quota], 1)).full
        assert 60 < full.resets_in <= 61.01
        clock.advance(full.resets_in - 1.01)
        assert (await store.admit([quota], 1)).full
        clock.advance(1.02)
        assert await used(store, quota) == [0]

    async def test_a_full_token_window_says_when_enough_of_it_is_free(self, store: Store, clock: ManualClock) -> None:
        quota = Quota("q", tokens=windows("100/minute"))
        for tokens in (10, 30, 80):
            await settle(store, (await store.admit([quota], 1)).reservation, tokens)
            clock.advance(10)
        (full,) = (await store.admit([quota], 1)).full
        assert full.used == 120
        assert 40 < full.resets_in <= 41.01  # that the oldest 10 are gone after 30 helps nobody
        clock.advance(full.resets_in + 0.01)
        assert not (await store.admit([quota], 1)).full

    async def test_tokens_count_when_they_are_known_whatever_window_they_were_reserved_in(
        self, store: Store, clock: ManualClock
    ) -> None:
        quota = Quota("q", tokens=windows("100/minute", "1000/day"))
        reservation = (await store.admit([quota], 50)).reservation
        clock.advance(13 * 3600)
        assert await used(store, quota) == [50, 50]
        await settle(store, reservation, 70)
        assert await used(store, quota) == [70, 70]

    async def test_a_lease_that_ends_twice_gives_no_credit(self, store: Store, clock: ManualClock) -> None:
        quota = Quota("q", tokens=windows("100/minute"), streams=2)
        first, second = [(await store.admit([quota], 30)).reservation for _ in range(2)]
        await settle(store, first)
        await settle(store, first)
        assert await used(store, quota) == [1, 30]
        await settle(store, second)
        assert await used(store, quota) == [0, 0]

    async def test_streams_are_places_that_come_back(self, store: Store, clock: ManualClock) -> None:
        quota = Quota("q", streams=2)
        reservations = [(await store.admit([quota])).reservation for _ in range(2)]
        refused = await store.admit([quota])
        assert refused.full == (Level(0, "streams", 2, 2, 0.0),)
        await settle(store, reservations[0])
        assert not (await store.admit([quota])).full
        assert (await store.admit([quota])).full

    async def test_whoever_comes_under_another_policy_goes_on_counting(self, store: Store, clock: ManualClock) -> None:
        small = Quota("q", requests=windows("3/minute"), tokens=windows("50/minute"), streams=1)
        large = Quota("q", requests=windows("10/minute"), tokens=windows("500/minute"), streams=9)
        reservations = [(await store.admit([large], 20)).reservation for _ in range(7)]
        assert {level.unit for level in (await store.admit([small], 20)).full} == {"requests", "tokens", "streams"}
        for reservation in reservations:
            await settle(store, reservation, 20)
        assert {level.unit for level in (await store.admit([small], 20)).full} == {"requests", "tokens"}
        left = [(await store.admit([large])).full for _ in range(4)]
        assert [bool(full) for full in left] == [False, False, False, True]

    async def test_exactly_the_amount_of_100_at_once_passes(self, store: Store, clock: ManualClock) -> None:
        for name, quota, tokens, passing in (
            ("requests", Quota("a", requests=windows("37/minute")), 0, 37),
            ("two windows", Quota("b", requests=windows("70/minute", "41/day")), 0, 41),
            ("a day", Quota("c", requests=windows("29/day")), 0, 29),
            ("streams", Quota("d", streams=13), 0, 13),
            ("tokens", Quota("e", tokens=windows("1000/minute")), 30, 34),  # the 34th finds ten left
            ("a month of tokens", Quota("f", tokens=windows("1000/month")), 50, 20),
            ("all", Quota("g", windows("50/minute"), windows("600/minute"), 31), 30, 20),
        ):
            admissions = await asyncio.gather(*(store.admit([quota], tokens) for _ in range(100)))
            assert sum(not admission.full for admission in admissions) == passing, name

    async def test_what_is_full_is_known_without_asking_and_not_for_too_long(
        self, store: Store, clock: ManualClock
    ) -> None:
        quota = Quota("q", windows("2/minute"), windows("100/minute"))
        reservations = [(await store.admit([quota], 50)).reservation]
        assert await store.known([quota]) == ()
        reservations.append((await store.admit([quota], 50)).reservation)
        assert "requests" in [level.unit for level in await store.known([quota]) if level.full]
        assert await store.known([Quota("p", quota.requests, quota.tokens)]) == ()
        for reservation in reservations:
            await settle(store, reservation, 10)
        clock.advance(60.01)
        assert not [level for level in await store.known([quota]) if level.full]
        assert not (await store.admit([quota], 50)).full

    async def test_spent_tokens_are_known_and_reserved_ones_only_while_they_are(
        self, store: Store, clock: ManualClock
    ) -> None:
        quota = Quota("q", tokens=windows("100/minute", "1000/day"))
        reservation = (await store.admit([quota], 100)).reservation
        assert (await store.admit([quota], 1)).full
        await settle(store, reservation, 10)
        assert not [level for level in await store.known([quota]) if level.full]
        reservation = (await store.admit([quota], 1)).reservation
        await settle(store, reservation, 90)
        (full,) = (await store.admit([quota], 1)).full
        (known,) = [level for level in await store.known([quota]) if level.full]
        assert (known.unit, known.used, known.amount) == ("tokens", 100, 100)
        assert known.resets_in == pytest.approx(full.resets_in, abs=0.01)
        large = Quota("q", tokens=windows("101/minute"))
        assert not [level for level in await store.known([large]) if level.full]

    async def test_fractions_of_a_second_are_windows_too(self, store: Store, clock: ManualClock) -> None:
        quota = Quota("q", requests=windows("1/250ms"))
        assert not (await store.admit([quota])).full
        clock.advance(0.2)
        assert (await store.admit([quota])).full
        clock.advance(0.051)
        assert not (await store.admit([quota])).full


# The property test: any sequence of requests, against a model that remembers everything.

Step = tuple[str, float]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 120).map(float)),
        st.tuples(st.just("settle"), st.integers(0, 200).map(float)),
        st.tuples(st.just("wait"), st.floats(0.001, 45, allow_nan=False).map(lambda seconds: round(seconds, 3))),
    ),
    max_size=60,
)
RATES = (windows("5/minute", "12/day"), windows("300/minute", "700/day"), 3)


@dataclass
class Model:
    """The quota of `RATES`, by brute force: every hit and every settlement is kept for ever, with its day and time.

    `time` is the clock by which the store's moving windows run.
    """

    clock: ManualClock
    time: Callable[[], float]
    hits: list[tuple[int, float]] = field(default_factory=list)
    spent: list[tuple[int, float, int]] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    @property
    def day(self) -> int:
        return int(self.clock.time() // 86400)

    def used(self) -> list[int]:
        reserved, now, day = sum(self.running), self.time(), self.day
        oldest = floor(now / (60 / SLICES)) - SLICES
        return [
            len(self.running),
            sum(at >= now - 60 for _, at in self.hits),
            sum(hit == day for hit, _ in self.hits),
            reserved + sum(tokens for _, at, tokens in self.spent if floor(at / (60 / SLICES)) >= oldest),
            reserved + sum(tokens for spent, _, tokens in self.spent if spent == day),
        ]


async def check_against_model(
    opened: Callable[[ManualClock], Awaitable[Store]], steps: list[Step], *, monotonic: bool = False
) -> None:
    """Take `steps` with a store and with the model, which must agree after each.

    `monotonic` says by which clock the store's moving windows run.
    """
    clock = ManualClock(START + 12 * 3600 - 300)  # midnight is near
    model = Model(clock, clock.monotonic if monotonic else clock.time)
    store = await opened(clock)
    quota = Quota("q", *RATES)
    amounts = [3, 5, 12, 300, 700]
    reservations: list[Reservation] = []
    try:
        for action, value in steps:
            if action == "wait":
                clock.advance(value)
            elif action == "settle":
                if reservations:
                    await settle(store, reservations.pop(0), int(value))
                    model.running.pop(0)
                    model.spent.append((model.day, model.time(), int(value)))
            else:
                full = [used >= amount for used, amount in zip(model.used(), amounts, strict=True)]
                admission = await store.admit([quota], int(value))
                assert bool(admission.full) == any(full)
                if admission.reservation is not None:
                    reservations.append(admission.reservation)
                    model.hits.append((model.day, model.time()))
                    model.running.append(int(value))
                    assert [level.used for level in admission.levels] == model.used()
            assert await used(store, quota) == model.used()
            units = {level.unit for level in await store.look([quota]) if level.full}
            assert {level.unit for level in await store.known([quota]) if level.full} <= units
    finally:
        await store.aclose()
