"""middleware/retry/hedge.py."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from middleware.retry.hedge import hedged
from proxy.kernel.asgi import Message, Receive, Scope, Send
from proxy.kernel.attempts import Attempt
from proxy.kernel.errors import ConnectFailed, ConnectionLost, Refused, Truncated
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RelayPart
from proxy.testing import Answer, call, make_exchange, ok, suppose
from tests.support.options import body_budget

Behavior = Callable[[Scope, Receive, Send], Awaitable[None]]


class Backends:
    """Innermost app: every run behaves as told, in order, and notes on its exchange what dispatch would."""

    def __init__(self, *behaviors: Behavior) -> None:
        self.behaviors = behaviors
        self.runs = 0
        self.cancelled: list[str] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        name = f"b{self.runs + 1}"
        behavior = self.behaviors[self.runs]
        self.runs += 1
        exchange.part(RelayPart).sent_to(name, None)
        self.bodies.append(await exchange.body() if receive == exchange.receive else (await receive())["body"])
        try:
            await behavior(scope, receive, send)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            suppose(exchange, history=(*exchange.history, Attempt(name, 0.0, 0.0, False, None)))


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ConnectFailed("refused")


async def loses(scope: Scope, receive: Receive, send: Send) -> None:
    raise ConnectionLost("reset", sent=True, reused=False)


async def loses_again(scope: Scope, receive: Receive, send: Send) -> None:
    error = ConnectionLost("reset", sent=True, reused=False)
    error.spent = True  # as proxy/pool/blame.py says of the second loss
    raise error


async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise Truncated("cut")


def after(seconds: float, then: Behavior) -> Behavior:
    async def behavior(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await then(scope, receive, send)

    return behavior


async def ask(backends: Backends, *, after: float = 0.01, again: bool = True) -> tuple[Answer, Exchange]:
    exchange = make_exchange("POST", "/api/embed", body=b'{"model":"m"}')
    await exchange.body()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hedged(backends, scope, receive, send, after=after, again=lambda: again)

    async with asyncio.timeout(5):
        return await call(app, exchange), exchange


async def test_who_answers_in_time_is_not_hedged() -> None:
    backends = Backends(ok)
    answer, exchange = await ask(backends, after=5.0)
    assert answer.body == b"ok"
    assert (backends.runs, exchange.backend) == (1, "b1")


async def test_the_second_answers_and_the_first_is_called_off() -> None:
    backends = Backends(never, ok)
    answer, exchange = await ask(backends)
    assert (answer.body, answer.complete) == (b"ok", True)
    assert backends.cancelled == ["b1"]
    assert (exchange.backend, exchange.tried, exchange.attempts) == ("b2", ("b1", "b2"), 2)
    assert {attempt.backend for attempt in exchange.history} == {"b1", "b2"}
    assert backends.bodies == [b'{"model":"m"}'] * 2


async def test_the_first_answers_after_all() -> None:
    backends = Backends(after(0.05, ok), never)
    answer, exchange = await ask(backends)
    assert answer.body == b"ok"
    assert backends.cancelled == ["b2"]
    assert (exchange.backend, exchange.tried, exchange.attempts) == ("b1", ("b1", "b2"), 2)


async def test_only_one_of_two_that_answer_together_is_heard() -> None:
    both = asyncio.Barrier(2)

    async def together(scope: Scope, receive: Receive, send: Send) -> None:
        await both.wait()
        await ok(scope, receive, send)

    answer, _ = await ask(Backends(together, together))
    assert answer.chunks == [b"ok"]


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (after(0.05, fails), ok, None),
        (never, breaks_off, Truncated),
        (after(0.05, fails), fails, ConnectFailed),
        (after(0.05, fails), after(0.1, ok), None),
        (after(0.05, ok), fails, None),
    ],
)
async def test_failures(first: Behavior, second: Behavior, error: type[Exception] | None) -> None:
    answer, exchange = await ask(Backends(first, second))
    assert type(answer.error) is (error or type(None))
    assert exchange.attempts == 2


@pytest.mark.parametrize("order", [(0.02, 0.03), (0.04, 0.0)])
async def test_where_both_are_lost_what_is_raised_says_that_it_goes_nowhere_any_more(
    order: tuple[float, float],
) -> None:
    answer, _ = await ask(Backends(after(order[0], loses), after(order[1], loses_again)))
    assert isinstance(answer.error, ConnectionLost)
    assert answer.error.spent


async def test_who_fails_before_it_is_time_is_not_hedged() -> None:
    backends = Backends(fails, ok)
    answer, _ = await ask(backends, after=5.0)
    assert isinstance(answer.error, ConnectFailed)
    assert backends.runs == 1


async def test_there_may_be_no_second() -> None:
    backends = Backends(after(0.05, ok), ok)
    assert (await ask(backends, again=False))[0].body == b"ok"
    assert backends.runs == 1


async def test_a_second_without_a_slot_is_nobodys_loss() -> None:
    async def full(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(503, "full")

    assert (await ask(Backends(after(0.05, ok), full)))[0].body == b"ok"


async def test_the_second_neither_queues_nor_holds_what_the_first_has() -> None:
    seen: list[Any] = []

    async def second(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        seen.extend((exchange.ticket, exchange.lease, exchange.id))
        await ok(scope, receive, send)

    exchange = make_exchange("POST", "/api/embed", body=b"{}")
    await exchange.body()
    suppose(exchange, ticket="waiting")
    backends = Backends(never, second)
    await hedged(backends, exchange.scope, exchange.receive, _nowhere, after=0.01, again=lambda: True)
    assert seen == [None, None, "test"]
    assert exchange.ticket == "waiting"


async def test_a_client_that_leaves_ends_both() -> None:
    started = asyncio.Barrier(3)

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await started.wait()
        await never(scope, receive, send)

    backends = Backends(waits, waits)
    exchange = make_exchange("POST", "/api/embed", body=b"{}")
    await exchange.body()
    task = asyncio.create_task(
        hedged(backends, exchange.scope, exchange.receive, _nowhere, after=0.01, again=lambda: True)
    )
    await started.wait()
    task.cancel()  # as the frame does
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(backends.cancelled) == ["b1", "b2"]


async def test_a_client_that_leaves_before_the_second_has_begun_leaves_nothing_to_collect() -> None:
    def leaves() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancel()

    exchange = make_exchange("POST", "/api/embed", body=b'{"its":"own"}')
    await exchange.body()
    backends = Backends(never)
    gc.disable()
    try:
        task = asyncio.create_task(
            hedged(backends, exchange.scope, exchange.receive, _nowhere, after=0.01, again=leaves)
        )
        await asyncio.wait([task])
        assert task.cancelled()
        del task
        found = [
            found
            for found in gc.get_objects()
            if isinstance(found, Exchange) and found._body._holding is exchange._body._holding
        ]
        assert found == [exchange]
    finally:
        gc.enable()
    assert backends.cancelled == ["b1"]


async def test_a_body_that_is_rewritten_above_is_rewritten_for_both() -> None:
    backends = Backends(never, ok)
    exchange = make_exchange("POST", "/api/embed", body=b'{"model":"m"}')
    await exchange.body()

    async def rewriting() -> Any:
        message = await exchange.receive()
        return {**message, "body": message["body"].replace(b"m", b"n")}

    await hedged(backends, exchange.scope, rewriting, _nowhere, after=0.01, again=lambda: True)
    assert backends.bodies == [b'{"nodel":"n"}'] * 2


async def _nowhere(message: Any) -> None:
    pass


@pytest.mark.parametrize("committed", [True, False])
async def test_the_body_goes_when_an_answer_has_begun_whoever_of_both_gives_it(committed: bool) -> None:
    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        suppose(exchange, committed=committed)
        if committed:
            exchange.release_body()
        await ok(scope, receive, send)

    budget = body_budget()
    exchange = make_exchange("POST", "/api/embed", body=b'{"model":"m"}', bodies=budget)
    await exchange.body()
    held: list[int] = []

    async def send(message: Message) -> None:
        held.append(budget.held)

    await hedged(Backends(never, answers), exchange.scope, exchange.receive, send, after=0.01, again=lambda: True)
    assert {*held} == {0 if committed else 13}
    assert (exchange.document is None) == committed
