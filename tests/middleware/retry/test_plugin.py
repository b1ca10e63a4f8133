"""What is repeated and what never, where it goes, and when it stops."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from middleware.retry.plugin import Backoff, Hedge, Retry
from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.backends import Backends
from proxy.kernel.errors import (
    BackendDown,
    ClientGone,
    ConnectFailed,
    ConnectionLost,
    Refused,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.model_names import ModelName
from proxy.services.fair_retry_budget import FairRetryBudget
from proxy.testing import Answer, ManualClock, call, make_exchange, ok, suppose
from tests.support.errors import answered, lost


def spent() -> ConnectionLost:
    error = lost()
    error.spent = True
    return error


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
    """So many backends, all with the same models; all there are if they are left out. So many come `back` in time."""

    def __init__(self, count: int, models: Sequence[str] | None = None) -> None:
        self.back = 0
        self.waited: list[float] = []
        self.count = count
        self.models = models

    def untried(self, exchange: Exchange, *, ejected: bool = False) -> bool:
        return len(exchange.tried) < self.count

    async def comeback(self, exchange: Exchange, seconds: float) -> bool:
        self.waited.append(seconds)
        if self.back:
            self.back -= 1
            self.count += 1  # as if it had not been tried
            return True
        return False

    def serves(self, exchange: Exchange, model: ModelName | None = None) -> bool:
        model = model or exchange.model
        return self.models is None or (model is not None and model.short in self.models)


class Script:
    """Innermost app: fails as told, one error per attempt, then answers with the body it got."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        suppose(exchange, attempts=exchange.attempts + 1)
        suppose(exchange, tried=(*exchange.tried, f"b{exchange.attempts}"))
        self.bodies.append((await receive())["body"])
        if self.errors:
            raise self.errors.pop(0)
        await ok(scope, receive, send)


def make(app: Any, hosts: int = 3, models: Sequence[str] | None = None, **options: Any) -> Retry:
    retries = options.pop("retries", None) or FairRetryBudget(ManualClock(), reserve=2.0, floor=0.0)
    return Retry(app, backends=Hosts(hosts, models), retries=retries, **options)


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
        ("/api/chat", 1, [lost(), spent()], 2, "lost_twice"),
        ("/api/embed", 9, [lost(), spent()], 2, "lost_twice"),
        ("/api/chat", 9, [lost(reused=True), *[ConnectFailed("x") for _ in range(9)]], 5, "attempts_spent"),
        ("/api/chat", 9, [lost(sent=False, reused=True) for _ in range(9)], 5, "attempts_spent"),
        ("/api/chat", 9, [answered(500, about="request")] * 9, 1, "content_error"),
        ("/api/chat", 9, [answered(500, said="x", at="b1"), answered(500, said="x", at="b2")], 2, "same_error"),
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
    retries = FairRetryBudget(ManualClock(), reserve=2.0, floor=0.0)
    attempts = 0
    for _ in range(500):
        _, exchange = await ask(make(Script(*[ConnectFailed("x")] * 9), retries=retries, budget=0.2))
        attempts += exchange.attempts
    assert attempts <= 1.2 * 500 + 3
    assert exchange.gave_up == "budget_spent"


async def test_the_first_loss_on_a_kept_connection_is_no_attempt_and_needs_no_budget(slept: list[float]) -> None:
    for attempts in (1, 2):
        errors = [ConnectFailed("x")] * (attempts - 1)
        script = Script(*errors, lost(reused=True))
        answer, exchange = await ask(make(script, attempts=attempts, fallback={"n": ["o"]}))
        assert (answer.status, exchange.attempts) == (200, attempts + 1)
    poor = FairRetryBudget(ManualClock(), reserve=0.0, floor=0.0)
    await ask(make(Script(ConnectFailed("x")), retries=poor, budget=0.0))  # what a request that runs may owe
    for _ in range(5):
        script = Script(lost(reused=True), ConnectFailed("x"))
        answer, exchange = await ask(make(script, retries=poor, budget=0.0, attempts=1, fallback={"n": ["o"]}))
        assert (answer.status, exchange.attempts) == (200, 3)
    assert slept == []


async def test_nothing_is_repeated_behind_the_commit_point() -> None:
    async def committed(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        suppose(exchange, attempts=exchange.attempts + 1, committed=True)
        raise ConnectFailed("x")

    async def started(scope: Scope, receive: Receive, send: Send) -> None:
        suppose(Exchange.of(scope), attempts=Exchange.of(scope).attempts + 1)
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


# Another model

FALLBACK: dict[str, Any] = {"fallback": {"m": ["n", "o:7b"]}}


async def test_another_model_stands_in_when_every_attempt_failed() -> None:
    script = Script(*[answered(500)] * 3)
    body = b'{ "model" : "m", "messages": [] , "x":1.0 }'
    answer, exchange = await ask(make(script, **FALLBACK, retries=FairRetryBudget(ManualClock())), body=body)
    assert answer.status == 200
    assert script.bodies == [body] * 3 + [body.replace(b'"m"', b'"n:latest"')]
    assert answer.header("x-ollama-proxy-model") == "n:latest"
    assert exchange.asked is not None
    assert exchange.asked.short == "m:latest"
    assert exchange.model is not None
    assert exchange.model.short == "n:latest"
    assert exchange.gave_up is None
    assert len(exchange.tried) == 1


async def test_each_model_has_its_own_attempts_and_the_last_word_is_the_most_telling() -> None:
    script = Script(answered(500), *[ConnectFailed("x")] * 9)
    answer, exchange = await ask(make(script, 1, attempts=1, **FALLBACK, retries=FairRetryBudget(ManualClock())))
    assert [body.decode() for body in script.bodies] == [f'{{"model":"{name}"}}' for name in ("m", "n:latest", "o:7b")]
    assert isinstance(answer.error, UpstreamAnswer)
    assert exchange.gave_up == "attempts_spent"
    assert answer.header("x-ollama-proxy-model") is None
    assert exchange.response_headers == []


async def test_a_model_that_nobody_has_is_not_tried_first() -> None:
    script = Script()
    answer, _ = await ask(make(script, models=["o:7b"], **FALLBACK))
    assert answer.status == 200
    assert script.bodies == [b'{"model":"o:7b"}']
    assert answer.header("x-ollama-proxy-model") == "o:7b"


async def test_where_nobody_has_any_of_them_the_backend_says_so_itself() -> None:
    script = Script(answered(404, missing=True))
    answer, exchange = await ask(make(script, 1, models=[], **FALLBACK))
    assert script.bodies == [b'{"model":"m"}']
    assert isinstance(answer.error, UpstreamAnswer)
    assert exchange.asked is None


@pytest.mark.parametrize(
    ("error", "path", "body"),
    [
        (UpstreamTimeout("late", timer="total", sent=True), "/api/chat", b'{"model":"m"}'),
        (answered(500), "/api/chat", b'{"model":"other"}'),
        (answered(500), "/api/show", b'{"model":"m"}'),
        (answered(500), "/api/chat", b'{"model":"m","model":"m"}'),
        (answered(500), "/v1/audio/transcriptions", b"form"),
    ],
)
async def test_when_no_other_model_stands_in(error: UpstreamError, path: str, body: bytes) -> None:
    script = Script(error)
    answer, exchange = await ask(make(script, 1, **FALLBACK), path, body)
    assert answer.error is error
    assert script.bodies == [body]
    assert exchange.response_headers == []


async def test_another_model_is_paid_for_like_any_retry() -> None:
    retries = FairRetryBudget(ManualClock(), reserve=0.0, floor=0.0)
    retries.earn(0.0)
    assert retries.spend()  # by one that runs no more
    retries.done()
    script = Script(answered(500))
    _, exchange = await ask(make(script, 1, **FALLBACK, retries=retries, budget=0.0))
    assert exchange.gave_up == "budget_spent"
    assert len(script.bodies) == 1


def test_names_that_are_none() -> None:
    with pytest.raises(ValueError, match="'a b' is not the name of a model"):
        make(ok, fallback={"m": ["a b"]})
    with pytest.raises(ValueError, match="'/' is not"):
        make(ok, fallback={"/": ["m"]})


async def test_a_single_attempt_still_has_other_models() -> None:
    answer, _ = await ask(make(Script(answered(500)), 1, attempts=1, **FALLBACK))
    assert answer.header("x-ollama-proxy-model") == "n:latest"


# One attempt's time, and two at once


@pytest.mark.parametrize("first_byte", [None, 30.0])
async def test_how_long_one_attempt_may_take_is_said_to_dispatch(first_byte: float | None) -> None:
    _, exchange = await ask(make(ok, first_byte=first_byte))
    assert exchange.hurry == first_byte


@pytest.mark.parametrize(
    ("path", "hosts", "runs"), [("/api/embed", 2, 2), ("/api/embed", 1, 1), ("/api/chat", 2, 1), ("/api/show", 2, 1)]
)
async def test_only_embeddings_are_hedged_and_only_elsewhere(path: str, hosts: int, runs: int) -> None:
    started: list[Exchange] = []
    both = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        suppose(exchange, tried=(*exchange.tried, f"b{len(started)}"))
        started.append(exchange)
        if len(started) < runs:
            await both.wait()
        both.set()
        await ok(scope, receive, send)

    answer, _ = await ask(make(slow, hosts, hedge=Hedge.model_validate({"after": "10ms"})), path)
    assert answer.body == b"ok"
    assert len(started) == runs


async def test_a_hedge_is_paid_for_like_any_retry() -> None:
    retries = FairRetryBudget(ManualClock(), reserve=1.0, floor=0.0)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if "b1" not in Exchange.of(scope).tried:
            suppose(Exchange.of(scope), tried=("b1",))
            await asyncio.sleep(0.05)
        await ok(scope, receive, send)

    plugin = make(slow, 2, hedge=Hedge.model_validate({"after": "10ms"}), retries=retries, budget=0.0)
    assert (await ask(plugin, "/api/embed"))[0].status == 200
    assert not retries.spend()
    assert (await ask(plugin, "/api/embed"))[0].status == 200


# A backend that comes back


def make_patient(script: Script, *, back: int, **options: Any) -> tuple[Retry, Hosts]:
    plugin = make(script, 1, **options)
    hosts = plugin._backends
    assert isinstance(hosts, Hosts)
    hosts.back = back
    return plugin, hosts


@pytest.mark.parametrize("error", [BackendDown("silent"), UpstreamTimeout("late", timer="first_byte", sent=True)])
async def test_one_that_came_back_in_time_gets_the_request(error: UpstreamError, slept: list[float]) -> None:
    plugin, hosts = make_patient(Script(error), back=1)
    answer, exchange = await ask(plugin)
    assert (answer.status, exchange.attempts, exchange.gave_up) == (200, 2, None)
    assert hosts.waited == [10.0]
    assert slept == []  # no back-off


async def test_when_none_came_back_it_gives_up() -> None:
    plugin, hosts = make_patient(Script(BackendDown("silent")), back=0, patience=3.0)
    answer, exchange = await ask(plugin)
    assert (answer.status, exchange.gave_up) == (None, "no_other_backend")
    assert hosts.waited == [3.0]


async def test_the_patience_is_for_the_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 4.0, 10.0, 13.0])  # it waits for 4 seconds, then for 3
    monkeypatch.setattr("middleware.retry.plugin.monotonic", lambda: next(times))
    plugin, hosts = make_patient(Script(*[BackendDown("silent")] * 2), back=2, attempts=5)
    _, exchange = await ask(plugin)
    assert hosts.waited == [10.0, 6.0]
    assert exchange.patience == 7.0


@pytest.mark.parametrize(("left", "waited"), [(2.0, [2.0]), (-1.0, [])])
async def test_the_callers_deadline_bounds_it(
    left: float, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("middleware.retry.plugin.monotonic", lambda: 100.0)
    plugin, hosts = make_patient(Script(BackendDown("silent")), back=1)
    exchange = make_exchange("POST", "/api/chat", body=b'{"model":"m"}', deadline=100.0 + left)
    await call(plugin, exchange)
    assert hosts.waited == waited


@pytest.mark.parametrize(
    ("options", "errors"),
    [
        ({"patience": 0.0}, [BackendDown("silent")]),
        ({"attempts": 2}, [BackendDown("silent"), BackendDown("silent")]),
        ({"fallback": {"m": ["n"]}}, [BackendDown("silent")]),
        ({}, [spent()]),
    ],
    ids=["no patience", "no attempt is left", "another model stands in", "lost twice"],
)
async def test_who_does_not_wait(options: dict[str, Any], errors: list[UpstreamError]) -> None:
    plugin, hosts = make_patient(Script(*errors), back=0, **options)
    hosts.back = 1 if "attempts" in options else 0
    await ask(plugin)
    assert len(hosts.waited) == (1 if "attempts" in options else 0)


async def test_coming_back_is_paid_for() -> None:
    retries = FairRetryBudget(ManualClock(), reserve=0.0, floor=0.0)
    for _ in range(2):
        retries.earn(0.0)
    while retries.spend():
        pass
    retries.done()
    retries.done()
    plugin, _ = make_patient(Script(BackendDown("silent"), BackendDown("silent")), back=2, retries=retries, budget=0.0)
    _, exchange = await ask(plugin)
    assert exchange.gave_up == "budget_spent"


# What it says about itself


@pytest.mark.parametrize(
    ("options", "path", "expected"),
    [
        ({"attempts": 1}, "/api/chat", Explanation("skip", "it is sent once, whatever happens")),
        ({}, "/api/blobs/sha256:0", Explanation("skip", "it is sent once, whatever happens")),
        ({}, "/api/chat", Explanation("pass", "tried up to 3 times before its first byte")),
        ({}, "/api/pull", Explanation("pass", "sent again only if no byte of it has reached a backend")),
        (
            FALLBACK,
            "/api/chat",
            Explanation("pass", "tried up to 3 times before its first byte, then n:latest, o:7b in its place"),
        ),
        (
            {**FALLBACK, "models": ["o:7b"]},
            "/api/chat",
            Explanation("change", "no backend has m:latest now: o:7b stands in for it"),
        ),
    ],
)
async def test_explain(options: dict[str, Any], path: str, expected: Explanation) -> None:
    assert await make(ok, **options).explain(make_exchange("POST", path, body=b'{"model":"m"}')) == expected
