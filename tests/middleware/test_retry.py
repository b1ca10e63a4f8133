"""What is repeated and what never, where it goes, and when it stops."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from middleware.retry import Backoff, Retry, Verdict, most_telling, verdict
from proxy.asgi import Receive, Scope, Send
from proxy.errors import (
    BadAnswer,
    ClientGone,
    ConnectFailed,
    ConnectionLost,
    Refused,
    Timer,
    Truncated,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.exchange import Exchange
from proxy.routes import Repeat
from proxy.services import Backends, RetryBudget
from tests.support.asgi import Answer, call, make_exchange, ok
from tests.support.clock import ManualClock

NO, ELSEWHERE, ANYWHERE = Verdict.NO, Verdict.ELSEWHERE, Verdict.ANYWHERE


def answered(status: int, *, busy: bool = False, missing: bool = False) -> UpstreamAnswer:
    return UpstreamAnswer(status, [], b"", busy=busy, missing=missing)


def late(timer: Timer, *, sent: bool = True) -> UpstreamTimeout:
    return UpstreamTimeout("late", timer=timer, sent=sent)


def lost(*, sent: bool = True, reused: bool = False) -> ConnectionLost:
    return ConnectionLost("lost", sent=sent, reused=reused)


@pytest.mark.parametrize(
    ("error", "safe", "costly", "never"),
    [
        (ConnectFailed("refused"), ANYWHERE, ANYWHERE, ANYWHERE),
        (late("connect", sent=False), ANYWHERE, ANYWHERE, ANYWHERE),
        (lost(sent=False), ANYWHERE, ANYWHERE, ANYWHERE),
        (lost(), ANYWHERE, ANYWHERE, NO),
        (lost(reused=True), ANYWHERE, ANYWHERE, NO),
        (answered(503, busy=True), ANYWHERE, ANYWHERE, NO),
        (answered(502), ANYWHERE, ANYWHERE, NO),
        (answered(503), ANYWHERE, ANYWHERE, NO),
        (answered(504), ANYWHERE, ANYWHERE, NO),
        (answered(500), ELSEWHERE, ELSEWHERE, NO),
        (answered(404, missing=True), ELSEWHERE, ELSEWHERE, NO),
        (answered(404), NO, NO, NO),
        (answered(400), NO, NO, NO),
        (BadAnswer("junk", sent=True, received=True), ELSEWHERE, ELSEWHERE, NO),
        (late("load"), ELSEWHERE, ELSEWHERE, NO),
        (late("first_byte"), ELSEWHERE, ELSEWHERE, NO),
        (late("write"), ELSEWHERE, ELSEWHERE, NO),
        (late("idle"), NO, NO, NO),
        (late("total"), NO, NO, NO),
        (late("total", sent=False), NO, NO, NO),
        (Truncated("cut"), NO, NO, NO),
        (UpstreamError("odd", sent=True), NO, NO, NO),
    ],
    ids=str,
)
def test_verdict(error: UpstreamError, safe: Verdict, costly: Verdict, never: Verdict) -> None:
    kinds: tuple[Repeat, ...] = ("safe", "costly", "never")
    assert tuple(verdict(repeat, [error]) for repeat in kinds) == (safe, costly, never)


def test_a_prompt_that_may_have_killed_its_backend_twice_goes_only_elsewhere() -> None:
    assert verdict("costly", [lost(), lost()]) is ELSEWHERE
    assert verdict("safe", [lost(), lost()]) is ANYWHERE
    assert verdict("costly", [ConnectFailed("x"), lost()]) is ANYWHERE


@pytest.mark.parametrize(
    ("errors", "index"),
    [
        ([ConnectFailed("a"), ConnectFailed("b")], 1),
        ([answered(500), ConnectFailed("b")], 0),
        ([answered(503, busy=True), lost()], 1),
        ([answered(503, busy=True), ConnectFailed("b")], 0),
        ([answered(404, missing=True), ConnectFailed("b")], 1),
        ([late("first_byte"), ConnectFailed("b")], 0),
        ([answered(404, missing=True), answered(404, missing=True)], 1),
    ],
)
def test_most_telling(errors: list[UpstreamError], index: int) -> None:
    assert most_telling(errors) is errors[index]


def test_backoff_is_full_jitter_under_a_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ranges.append((low, high))
        return low

    monkeypatch.setattr("random.uniform", uniform)
    backoff = Backoff.model_validate({"base": "1s", "max": "5s"})
    assert [backoff.delay(retries) for retries in (1, 2, 3, 4, 50)] == [0.0] * 5
    assert ranges == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5)]


class Hosts(Backends):
    """So many backends that were not tried yet."""

    def __init__(self, count: int) -> None:
        self.count = count

    def untried(self, exchange: Exchange) -> bool:
        return exchange.attempts < self.count


class Script:
    """Innermost app: fails as told, one error per attempt, then answers with the body it got."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.attempts += 1
        self.bodies.append((await receive())["body"])
        if self.errors:
            raise self.errors.pop(0)
        await ok(scope, receive, send)


def make(app: Any, hosts: int = 3, **options: Any) -> Retry:
    retries = options.pop("retries", None) or RetryBudget(ManualClock(), reserve=2.0, floor=0.0)
    return Retry(app, backends=Hosts(hosts), retries=retries, **options)


async def ask(plugin: Retry, path: str = "/api/chat", body: bytes = b'{"model":"m"}') -> tuple[Answer, Exchange]:
    exchange = make_exchange("POST", path, body=body)
    return await call(plugin, exchange), exchange


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No real waiting: the seconds that would have been slept."""
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    return delays


async def test_the_next_backend_at_once_with_the_same_body(slept: list[float]) -> None:
    script = Script(ConnectFailed("refused"))
    answer, exchange = await ask(make(script))
    assert (answer.status, answer.body, answer.error) == (200, b"ok", None)
    assert script.bodies == [b'{"model":"m"}'] * 2
    assert (exchange.attempts, exchange.gave_up) == (2, None)
    assert slept == []


async def test_a_body_rewritten_above_is_what_is_repeated() -> None:
    script = Script(ConnectFailed("refused"))
    exchange = make_exchange(body=b'{"model":"m"}')
    await exchange.body()
    exchange.put_body(b'{"model":"other"}')
    await call(make(script), exchange)
    assert script.bodies == [b'{"model":"other"}'] * 2


async def test_back_off_where_no_other_backend_is_left(slept: list[float]) -> None:
    answer, exchange = await ask(make(Script(answered(503, busy=True), lost()), hosts=1))
    assert answer.status == 200
    assert exchange.attempts == 3
    assert len(slept) == 2
    assert all(0 <= delay <= 0.4 for delay in slept)


@pytest.mark.parametrize(
    ("path", "hosts", "errors", "attempts", "gave_up"),
    [
        ("/api/chat", 9, [ConnectFailed("x")] * 9, 3, "attempts_spent"),
        ("/api/chat", 9, [answered(404)], 1, "not_repeatable"),
        ("/api/chat", 1, [answered(500)], 1, "no_other_backend"),
        ("/api/chat", 2, [answered(500)] * 2, 2, "no_other_backend"),
        ("/api/chat", 1, [lost()] * 9, 2, "no_other_backend"),
        ("/api/embed", 1, [lost()] * 9, 3, "attempts_spent"),
        ("/api/pull", 9, [lost()], 1, "not_repeatable"),
        ("/api/pull", 9, [ConnectFailed("x"), answered(500)], 2, "not_repeatable"),
    ],
)
async def test_when_it_gives_up(
    slept: list[float], path: str, hosts: int, errors: Sequence[UpstreamError], attempts: int, gave_up: str
) -> None:
    answer, exchange = await ask(make(Script(*errors), hosts), path)
    assert isinstance(answer.error, UpstreamError)
    assert answer.status is None
    assert (exchange.attempts, exchange.gave_up) == (attempts, gave_up)


async def test_the_most_telling_error_is_what_the_caller_gets() -> None:
    answer, _ = await ask(make(Script(answered(500), ConnectFailed("x"), ConnectFailed("y"))))
    assert isinstance(answer.error, UpstreamAnswer)


async def test_retries_stay_within_the_budget_of_the_process() -> None:
    retries = RetryBudget(ManualClock(), reserve=2.0, floor=0.0)
    attempts = 0
    for _ in range(500):
        _, exchange = await ask(make(Script(*[ConnectFailed("x")] * 9), retries=retries, budget=0.2))
        attempts += exchange.attempts
    assert attempts <= 1.2 * 500 + 2
    assert exchange.gave_up == "budget_spent"


async def test_nothing_is_repeated_behind_the_commit_point() -> None:
    async def committed(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.attempts += 1
        exchange.committed = True
        raise ConnectFailed("x")

    async def started(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).attempts += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ConnectFailed("x")

    for app in (committed, started):
        answer, exchange = await ask(make(app))
        assert isinstance(answer.error, ConnectFailed)
        assert exchange.attempts == 1


@pytest.mark.parametrize("error", [Refused(429, "no"), Refused(503, "no")])
async def test_refusals_pass(error: Refused) -> None:
    answer, exchange = await ask(make(Script(error)))
    assert answer.error is error
    assert exchange.attempts == 1


async def test_a_client_that_left_passes() -> None:
    with pytest.raises(ClientGone):
        await ask(make(Script(ClientGone())))


async def test_a_client_that_leaves_during_the_back_off_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping = asyncio.Event()

    async def sleep(seconds: float) -> None:
        sleeping.set()
        await asyncio.Future()

    monkeypatch.setattr("asyncio.sleep", sleep)
    script = Script(ConnectFailed("x"))
    task = asyncio.create_task(ask(make(script, hosts=1)))
    await sleeping.wait()
    task.cancel()  # as the frame does
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(script.bodies) == 1


@pytest.mark.parametrize(
    ("path", "options"),
    [("/api/blobs/sha256:0", {}), ("/nothing", {}), ("/api/chat", {"attempts": 1})],
)
async def test_what_cannot_be_repeated_is_passed_on_as_it_is(path: str, options: dict[str, Any]) -> None:
    result = asyncio.get_running_loop().create_future()
    plugin = make(lambda scope, receive, send: result, **options)
    exchange = make_exchange("POST", path)
    assert plugin(exchange.scope, exchange.receive, None) is result  # type: ignore[arg-type]  # never used
    assert exchange.attempts == 0


async def test_other_scopes_pass() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await make(inner)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # neither is used
    assert seen == ["lifespan"]
