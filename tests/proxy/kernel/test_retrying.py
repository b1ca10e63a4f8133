"""proxy/kernel/retrying.py."""

from typing import Any

from proxy.kernel.exchange_parts import PoolPart, RelayPart
from proxy.kernel.retrying import account_for, forget_tried, take_answer
from proxy.testing import make_exchange, suppose
from tests.support.options import body_budget

FIELDS = [(kind, name) for kind in (RelayPart, PoolPart) for name in kind.__annotations__]


def test_whatever_a_second_attempt_found_reaches_the_first() -> None:
    exchange = make_exchange()
    second = exchange.second_attempt()
    values: dict[str, Any] = {name: object() for _, name in FIELDS}
    values |= {"tried": ("b2",), "attempts": 1, "history": ("attempt",), "committed": False}
    kept = {"need"}  # each attempt finds out its own
    for kind, name in FIELDS:
        setattr(second.part(kind), name, values[name])
    account_for(second, exchange)
    take_answer(second, exchange)
    for _, name in FIELDS:
        assert (getattr(exchange, name) == values[name]) == (name not in kept), name


def test_each_backend_is_noted_once_for_both_attempts() -> None:
    exchange = make_exchange()
    exchange.part(RelayPart).sent_to("b1", "idle")
    second = exchange.second_attempt()
    assert (second.tried, second.attempts) == (("b1",), 0)
    second.part(RelayPart).sent_to("b2", "next")
    account_for(second, exchange)
    assert (exchange.tried, exchange.attempts, exchange.backend) == (("b1", "b2"), 2, "b1")


async def test_a_committed_answer_releases_the_body_of_the_request() -> None:
    budget = body_budget()
    exchange = make_exchange(body=b"{}", bodies=budget)
    await exchange.body()
    second = exchange.second_attempt()
    take_answer(second, exchange)
    assert budget.held
    second.part(RelayPart).committed = True
    take_answer(second, exchange)
    assert exchange.committed
    assert not budget.held


def test_another_model_begins_with_every_backend() -> None:
    exchange = make_exchange()
    suppose(exchange, tried=("b1",))
    forget_tried(exchange)
    assert exchange.tried == ()
