"""How a request waits, as the policy and the client say."""

import asyncio
from typing import Any

import orjson
import pytest

from middleware.queue import Queue
from proxy.chain.plugin_lookup import find
from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.attempts import Usage
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.slot_scheduling import Outlook, Scheduler, Terms
from proxy.kernel.stored_run import RUN, StoredRun
from proxy.queue.scheduler import FairScheduler
from proxy.services.system_clock import SystemClock
from proxy.testing import Answer, call, make_exchange, ok, suppose
from tests.support.slots import FakeSlots

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


class Recorder(Scheduler):
    """Notes the terms, and what happens to the request."""

    def __init__(self, outlook: Outlook = Outlook(1, None, None), refusal: Refused | None = None) -> None:  # noqa: B008
        self.terms: list[Terms] = []
        self.events: list[str] = []
        self._outlook = outlook
        self._refusal = refusal

    async def enter(self, exchange: Exchange, terms: Terms) -> None:
        self.terms.append(terms)
        self.events.append("enter")
        if self._refusal is not None:
            raise self._refusal

    async def again(self, exchange: Exchange) -> None:
        raise AssertionError

    def leave(self, exchange: Exchange) -> None:
        self.events.append("leave")

    def outlook(self, exchange: Exchange, terms: Terms) -> Outlook:
        self.terms.append(terms)
        return self._outlook


async def ask(
    scheduler: Scheduler,
    app: Any = ok,
    method: str = "POST",
    path: str = "/api/chat",
    body: bytes = CHAT,
    **options: Any,
) -> tuple[Answer, Exchange]:
    headers = options.pop("headers", ())
    exchange = make_exchange(method, path, body=body, headers=headers, started_at=1000.0)
    suppose(exchange, tenant=options.pop("tenant", "physics"))
    return await call(Queue(app, scheduler=scheduler, **options), exchange), exchange


async def terms_of(**options: Any) -> Terms:
    scheduler = Recorder()
    answer, _ = await ask(scheduler, **options)
    assert answer.error is None
    return scheduler.terms[0]


# Who waits


@pytest.mark.parametrize(
    ("method", "path", "routes", "waits"),
    [
        ("POST", "/api/chat", {"inference"}, True),
        ("POST", "/v1/embeddings", {"inference"}, True),
        ("GET", "/api/tags", {"inference"}, False),
        ("POST", "/api/pull", {"inference"}, False),
        ("POST", "/api/pull", {"inference", "manage"}, True),
        ("POST", "/api/blobs/sha256:00", {"manage"}, True),
        ("POST", "/nowhere", {"inference"}, False),
    ],
)
async def test_which_requests_wait(method: str, path: str, routes: set[str], waits: bool) -> None:
    scheduler = Recorder()
    answer, _ = await ask(scheduler, method=method, path=path, routes=routes)
    assert answer.status == 200
    assert scheduler.events == ["enter", "leave"] * waits


async def test_the_body_is_read_before_and_a_blob_is_not() -> None:
    """So no slot waits for a slow upload, and no memory is taken for one."""
    _, exchange = await ask(Recorder())
    assert exchange.model is not None
    _, blob = await ask(Recorder(), path="/api/blobs/sha256:00", routes={"manage"})
    assert blob.model is None
    assert blob.reading == 0.0


async def test_what_is_no_request_passes() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Queue(app, scheduler=Recorder())({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


async def test_leaving_follows_whatever_happens() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    for error, scheduler in ((Refused, Recorder(refusal=Refused(503, "full"))), (ZeroDivisionError, Recorder())):
        exchange = make_exchange(body=CHAT)
        with pytest.raises(error):
            await Queue(fails, scheduler=scheduler)(exchange.scope, exchange.receive, None)  # type: ignore[arg-type]
        assert scheduler.events == ["enter", "leave"]


# How


async def test_the_options_are_the_terms() -> None:
    terms = await terms_of(depth=7, depth_per_tenant=3, wait=2.0, weight=4.0, priority="high")
    assert terms[2:] == (7, 2.0, 4.0, 1, 3, None, None)
    assert (await terms_of())[2:] == (200, 60.0, 1.0, 0, None, None, None)


@pytest.mark.parametrize(("priority", "number"), [("low", -1), ("normal", 0), ("high", 1), (-7, -7), (42, 42)])
async def test_priorities(priority: Any, number: int) -> None:
    assert (await terms_of(priority=priority)).priority == number


async def test_a_stored_run_waits_on_terms_of_its_own() -> None:
    recorder = Recorder()
    exchange = make_exchange(body=CHAT)
    exchange.scope[RUN] = StoredRun("ab", -10, 5.0, lambda: None)
    await call(Queue(ok, scheduler=recorder, priority="high", wait=60.0), exchange)
    assert (recorder.terms[0].priority, recorder.terms[0].wait) == (-10, 5.0)


@pytest.mark.parametrize(
    ("tenant", "identity", "name"),
    [
        ("physics", "alice", "physics"),
        (None, "alice", "@alice"),
        (None, None, "@@192.0.2.1"),
    ],
)
async def test_whose_turn_it_is(tenant: str | None, identity: str | None, name: str) -> None:
    exchange = make_exchange(body=CHAT, client="192.0.2.1")
    suppose(exchange, tenant=tenant, identity=identity)
    scheduler = Recorder()
    await call(Queue(ok, scheduler=scheduler), exchange)
    assert scheduler.terms[0].tenant == name


@pytest.mark.parametrize(
    ("path", "body", "cost"),
    [
        ("/api/chat", CHAT, len(CHAT) // 4 + 1024),
        ("/api/generate", b'{"model":"m","prompt":"hi","options":{"num_predict":5}}', 13 + 5),
        ("/v1/chat/completions", b'{"model":"m","max_tokens":7}', 7 + 7),
        ("/api/embed", b'{"model":"m","input":"' + b"x" * 4000 + b'"}', 1006),
        ("/v1/chat/completions", b'{"max_tokens":1000000}', 16384),
        ("/api/chat", b"not JSON", 1024),
        ("/v1/audio/transcriptions", b"multipart", 1024),
    ],
)
async def test_what_a_request_is_expected_to_take(path: str, body: bytes, cost: int) -> None:
    assert (await terms_of(path=path, body=body)).cost == cost


async def test_a_body_that_is_no_json_is_the_backends_to_refuse() -> None:
    answer, _ = await ask(Recorder(), body=b"\xff{")
    assert answer.status == 200


# The client's deadline


@pytest.mark.parametrize(
    ("value", "seconds"), [("5", 5), ("2.5", 2.5), (" 30 ", 30), ("500ms", 0.5), ("30s", 30), ("2m", 120), ("0", 0)]
)
async def test_a_client_may_say_when_it_needs_its_answer(value: str, seconds: float) -> None:
    terms = await terms_of(headers=[("X-Request-Timeout", value)])
    assert terms.deadline == 1000.0 + seconds


@pytest.mark.parametrize("value", ["", "soon", "-1", "1e3", "nan", "inf", "5 s", "\u0665".encode().decode("latin-1")])
async def test_a_deadline_that_is_none_is_refused(value: str) -> None:
    exchange = make_exchange(body=CHAT)
    exchange.scope["headers"].append((b"x-request-timeout", value.encode("latin-1")))
    scheduler = Recorder()
    answer = await call(Queue(ok, scheduler=scheduler), exchange)
    assert answer.error is not None
    assert (answer.error.status, scheduler.events) == (400, [])
    assert "X-Request-Timeout" in answer.error.message


# Options in the policy file


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ({"depth": 200, "wait": "60s", "weight": 1, "priority": "normal"}, True),
        ({"priority": 5, "depth_per_tenant": None, "routes": ["inference", "manage"], "weight": 0.5}, True),
        ({"estimate": {"output": 100}}, True),
        ({"priority": "urgent"}, False),
        ({"priority": 101}, False),
        ({"priority": 0.5}, False),
        ({"weight": 0}, False),
        ({"depth": -1}, False),
        ({"wait": 60}, False),
        ({"routes": ["all"]}, False),
        ({"length": 5}, False),
    ],
)
def test_options(options: dict[str, Any], good: bool) -> None:
    model = find("queue").options
    if good:
        model.model_validate_json(orjson.dumps(options))
    else:
        with pytest.raises(ValueError, match="validation error"):
            model.model_validate_json(orjson.dumps(options))


# explain


@pytest.mark.parametrize(
    ("outlook", "verdict", "text"),
    [
        (Outlook(1, None, None), "pass", "number 1 in line, and wait up to 1m"),
        (Outlook(4, 2.46, None), "wait", "number 4 in line, in about 2.46 s"),
        (Outlook(9, 99.0, Refused(503, "too late")), "refuse", "too late"),
    ],
)
async def test_explain(outlook: Outlook, verdict: str, text: str) -> None:
    scheduler = Recorder(outlook)
    explanation = await Queue(ok, scheduler=scheduler).explain(make_exchange(body=CHAT))
    assert explanation.verdict == verdict
    assert text in explanation.text
    assert scheduler.events == []


async def test_explain_what_does_not_wait() -> None:
    explanation = await Queue(ok, scheduler=Recorder()).explain(make_exchange("GET", "/api/tags"))
    assert (explanation.verdict, explanation.text) == ("skip", "only inference requests wait")


# With the scheduler


async def test_two_policies_share_one_queue() -> None:
    slots = FakeSlots(1)
    scheduler = FairScheduler(slots, SystemClock())
    release = asyncio.Event()

    async def uses_its_slot(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        lease = exchange.take_lease()
        assert lease is not None
        await release.wait()
        lease.give_back()
        suppose(exchange, usage=Usage(tokens_in=1, tokens_out=1))
        await ok(scope, receive, send)

    low, high = (Queue(uses_its_slot, scheduler=scheduler, priority=priority) for priority in ("low", "high"))
    order: list[str] = []

    async def one(name: str, plugin: Queue) -> None:
        exchange = make_exchange(body=CHAT)
        exchange.on_finish(lambda _: order.append(name))
        assert (await call(plugin, exchange)).status == 200

    async with asyncio.TaskGroup() as tasks:
        for name, plugin in (("first", low), ("low", low), ("high", high)):
            tasks.create_task(one(name, plugin))
            await asyncio.sleep(0)
        release.set()
    assert order == ["first", "high", "low"]
    assert slots.held == []
