"""bench/scale_line.py."""

import pytest

from bench.scale_line import Line, Node, Request


def request(tenant: int, cost: float = 1.0) -> Request:
    return Request(tenant, 0, work=cost, cost=cost, arrived=0.0)


def order(line: Line) -> list[int]:
    return [line.pop().tenant for _ in range(len(line))]


def test_tenants_take_turns_by_cost() -> None:
    line = Line()
    for tenant, cost in [(1, 1.0)] * 4 + [(2, 1.0)] * 2 + [(3, 3.0)] * 2:
        line.push(request(tenant, cost))
    assert line.waiting(1) == 4
    assert order(line) == [1, 2, 3, 1, 2, 1, 3, 1]


def test_absence_earns_nothing_and_a_debt_is_kept() -> None:
    line = Line()
    for _ in range(3):
        line.push(request(1))
        line.pop()
    line.charge(request(2, 10.0))
    for tenant in (1, 1, 2, 3):
        line.push(request(tenant))
    assert order(line) == [3, 1, 1, 2]


def test_a_node_works_off_one_command_after_another() -> None:
    node = Node()
    assert [node.take(0.0, 1.0), node.take(0.5, 1.0), node.take(5.0, 1.0)] == [1.0, 2.0, 6.0]
    assert node.commands == 3
    assert node.worked(5.5) == pytest.approx(2.5)
