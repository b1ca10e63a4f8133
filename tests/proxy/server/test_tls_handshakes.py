"""proxy/server/tls_handshakes.py, by a clock that a test turns."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.server.connection_counts import UNBOUNDED
from proxy.server.tls_handshakes import CROWDED_SECONDS, DROPPED_AT_ONCE, LOOK_EVERY, SHARE, Handshakes

PATIENCE = 10.0


class Loop:
    """The two things of an event loop that are needed, and time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Any) -> Any:
        timer = (self.now + seconds, callback)
        self._timers.append(timer)
        return cast(Any, Timer(self._timers, timer))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self._timers if timer[0] <= end + 1e-9]:
            first = min(due, key=lambda timer: timer[0])
            self._timers.remove(first)
            self.now = first[0]
            first[1]()
        self.now = end

    @property
    def idle(self) -> bool:
        return not self._timers


@dataclass
class Timer:
    timers: list[Any]
    timer: Any

    def cancel(self) -> None:
        self.timers.remove(self.timer)


@dataclass(eq=False)
class Hands:
    """A handshake that notes what is done with it."""

    group: str
    house: "House"
    since: float
    begun: bool = False
    dropped: bool = False
    over: bool = False

    def begin(self) -> None:
        assert not self.begun
        self.begun = True

    def drop(self) -> None:
        assert not self.dropped
        self.dropped = True
        if self.begun:
            self.house.ending.append(self)
        else:
            self.over = True

    def finish(self) -> None:
        if not self.over:
            self.over = True
            self.house.handshakes.done(self)


@dataclass
class House:
    bound: int
    loop: Loop = field(default_factory=Loop)
    made: list[Hands] = field(default_factory=list)
    ending: list[Hands] = field(default_factory=list)
    """Dropped while it ran; the loop tells of its end later."""

    def __post_init__(self) -> None:
        self.handshakes = Handshakes(cast(asyncio.AbstractEventLoop, self.loop), lambda: self.bound, lambda: PATIENCE)

    def come(self, group: str, count: int = 1) -> list[Hands]:
        new = [Hands(group, self, self.loop.now) for _ in range(count)]
        self.made += new
        for hands in new:
            self.handshakes.add(hands)
        return new

    def pass_time(self, seconds: float) -> None:
        """Let time pass; what was dropped ends."""
        for _ in range(round(seconds / LOOK_EVERY)):
            self.loop.pass_time(LOOK_EVERY)
            self.settle()

    def settle(self) -> None:
        while self.ending:
            self.ending.pop().finish()

    @property
    def running(self) -> list[Hands]:
        return [hands for hands in self.made if hands.begun and not hands.over]


def test_one_address_has_a_share_and_the_others_begin_at_once() -> None:
    house = House(40)
    house.come("attacker", 1000)
    assert Counter(hands.group for hands in house.running) == {"attacker": 40 // SHARE}
    assert all(hands.begun for hands in house.come("honest", 5))


def test_trusted_proxies_have_no_share_of_their_own() -> None:
    house = House(40)
    house.come(UNBOUNDED, 100)
    assert len(house.running) == 40


def test_a_burst_of_honest_ones_is_served_whole_and_in_order() -> None:
    house = House(40)
    burst = house.come("honest", 500)
    order: list[Hands] = []
    while running := house.running:
        assert len(running) <= 10
        order.append(running[0])
        running[0].finish()
    assert order == burst
    assert not any(hands.dropped for hands in burst)
    house.pass_time(1)
    assert house.loop.idle


def test_who_waits_at_a_crowded_address_gets_the_place_of_one_who_dawdles() -> None:
    house = House(40)
    house.come("crowded", 10)
    (late,) = house.come("crowded")
    house.pass_time(CROWDED_SECONDS / 2)
    assert not late.begun
    house.pass_time(CROWDED_SECONDS)
    assert late.begun


def test_nobody_is_hurried_where_nobody_waits() -> None:
    house = House(40)
    slow = house.come("slow", 10)
    house.pass_time(PATIENCE / 2)
    assert not any(hands.dropped for hands in slow)


def test_where_all_run_that_may_the_largest_crowd_makes_room() -> None:
    house = House(40)
    few = house.come("few", 2)
    for number in range(4):
        house.come(f"many-{number}", 20)
    house.pass_time(CROWDED_SECONDS + LOOK_EVERY)
    (new,) = house.come("new")
    house.settle()
    assert new.begun
    assert not any(hands.dropped for hands in few)


def test_those_who_wait_too_long_are_let_go_a_few_at_a_time() -> None:
    house = House(40)
    house.come("attacker", 1000)
    house.pass_time(PATIENCE)
    waiting = house.handshakes.waiting
    house.loop.pass_time(2 * LOOK_EVERY)
    assert 0 < waiting - house.handshakes.waiting <= 2 * (DROPPED_AT_ONCE + 40)
    house.pass_time(10 * PATIENCE)
    assert not house.handshakes.waiting


def test_at_the_end_all_are_dropped() -> None:
    house = House(8)
    house.come("a", 5)
    house.handshakes.close()
    assert all(hands.dropped for hands in house.made)
    assert house.loop.idle
    house.settle()
    assert repr(house.handshakes) == "<Handshakes 0 running, 0 waiting>"


@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(st.sampled_from(["come", "finish", "time", "bound"]), st.integers(0, 20)), min_size=10, max_size=80
    ),
)
def test_bounds_hold_and_nobody_is_forgotten(bound: int, steps: list[tuple[str, int]]) -> None:
    house = House(bound)
    for what, number in steps:
        if what == "come":
            house.come(f"{number % 5}" if number else UNBOUNDED, 3)
        elif what == "finish" and house.running:
            house.running[number % len(house.running)].finish()
        elif what == "time":
            house.pass_time(number / 10)
        elif what == "bound" and number:
            house.bound = bound = number
            bound = max(bound, len(house.running))  # those that run already may end
        running = Counter(hands.group for hands in house.running)
        assert house.handshakes.running == len(house.running) <= max(bound, house.handshakes.running)
        if all(step != "bound" for step, _ in steps):
            assert running.total() <= house.bound
            assert all(count <= max(1, house.bound // SHARE) for group, count in running.items() if group != UNBOUNDED)
        waiting = sum(not hands.begun and not hands.dropped for hands in house.made)
        assert house.handshakes.waiting == waiting
    for _ in range(200):
        house.pass_time(1)
        for hands in house.running:
            hands.finish()
    assert all(hands.over for hands in house.made)
    assert house.loop.idle


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_a_bound_below_the_share_lets_one_of_each_address_run(bound: int) -> None:
    house = House(bound)
    house.come("a", 3)
    assert len(house.running) == 1
