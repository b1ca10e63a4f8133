"""The parts of the fair queue; what they do together is in test_fair.py."""

import pytest

from proxy.queue.fair_queue_parts import (
    LEAST,
    REMEMBERED,
    Claim,
    Entry,
    Flow,
    LaneQueue,
    Learned,
    PriorityLevel,
    Sizes,
    Tenant,
)


def make_queue() -> LaneQueue[int]:
    return LaneQueue("lane", PriorityLevel(0))


def waits(queue: LaneQueue[int], flow: Flow[int], number: int, cost: int = 10) -> Entry[int]:
    """Let one wait in `flow`, as the queue does."""
    entry = Entry(number, Claim(flow.tenant.name, queue.lane, cost), flow, number)
    if not flow.entries:
        queue.open(flow, number)
        queue.weigh(flow, 1.0)
    flow.entries[entry] = None
    queue.ask(flow, cost)
    return entry


def make_flow(queue: LaneQueue[int], name: str) -> Flow[int]:
    flow = queue.flows[name] = Flow(Tenant(name), queue)
    return flow


def test_the_lowest_turn_is_first_and_of_equals_who_came_first() -> None:
    queue = make_queue()
    a, b, c = (make_flow(queue, name) for name in "abc")
    for number, flow in enumerate((a, b, c)):
        waits(queue, flow, number)
    assert queue.first() is a
    queue.serve(a, 10, 1.0)
    assert queue.first() is b
    b.turn += 50
    assert queue.first() is c


def test_a_line_weighs_what_its_flows_do() -> None:
    queue = make_queue()
    a, b = make_flow(queue, "a"), make_flow(queue, "b")
    waits(queue, a, 0)
    entry = waits(queue, b, 1)
    queue.weigh(b, 3.0)
    assert (queue.weight, queue.cost) == (4.0, 20)
    queue.serve(b, 12, 1.0)
    assert (b.turn, queue.turn) == (4.0, 3.0)
    del b.entries[entry]
    queue.ask(b, -10)
    queue.close(b)
    assert (queue.weight, queue.cost, queue.active) == (1.0, 10, 1)


def test_a_tenant_spreads_its_weight() -> None:
    tenant: Tenant[int] = Tenant("a")
    tenant.weight, tenant.flows = 2.0, 4
    assert tenant.part == 0.5


def test_what_is_learned() -> None:
    learned = Learned()
    assert not learned
    assert learned.ratio == 1.0
    for _ in range(50):
        learned.note(1000, 100)
    assert learned
    assert learned.ratio == pytest.approx(0.1)
    for _ in range(100):
        learned.note(10, 20)
    assert learned.ratio == pytest.approx(2, rel=0.1)
    for _ in range(1000):
        learned.note(10, 0)
    assert learned.ratio == LEAST


def test_what_is_paid_is_what_was_taken_however_it_changes() -> None:
    """Whoever says much and takes little cannot take much for little afterwards."""
    learned, paid, taken = Learned(), 0.0, 0
    for number in range(1000):
        expected, took = ((16_000, 10), (1_000, 10_000))[number % 2]
        paid += expected * learned.ratio
        learned.note(expected, took)
        taken += took
    assert paid == pytest.approx(taken, rel=0.2)


def test_the_debts_of_the_latest_are_remembered() -> None:
    queue = make_queue()
    waits(queue, make_flow(queue, "waits"), 0)
    for number in range(10 * REMEMBERED):
        queue.serve(make_flow(queue, str(number)), 1, 1.0)
    assert "waits" in queue.flows
    assert str(10 * REMEMBERED - 1) in queue.flows
    assert len(queue.flows) <= 2 * REMEMBERED + 1


@pytest.mark.parametrize(
    ("flows", "turn", "tokens"),
    [
        ([], 100, 0),
        ([(10, 1)], 100, 10),
        ([(1000, 1)], 100, 100),
        ([(1000, 4)], 100, 400),
        ([(1000, 0.5), (10, 1), (100, 1)], 100, 160),
        ([(7, 1)] * 20, 1000, 140),
        ([(10**30, 1)], 10**25, 10**25),
        ([(5, 1)], 0, 0),
    ],
)
def test_what_all_flows_get_until_a_turn(flows: list[tuple[int, float]], turn: float, tokens: float) -> None:
    sizes = Sizes()
    for cost, share in flows:
        sizes.add(cost, share)
    assert sizes.until(turn) == pytest.approx(tokens)
    for cost, share in flows:
        sizes.remove(cost, share)
    assert sizes.until(turn) == 0
