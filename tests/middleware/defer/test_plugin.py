"""`defer` as a plugin: whom it keeps, when, and what it says; tests/live/test_deferred.py has the rest."""

import asyncio
from typing import Any

import orjson
import pytest

from middleware.defer.plugin import Defer
from proxy.journal.memory import MemoryJournal
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.inner_request import inner_scope
from proxy.kernel.journal import Query
from proxy.kernel.passing_errors import NO_ROOM
from proxy.kernel.running_terms import RunningTerms
from proxy.kernel.stored_run import RUN, StoredRun
from proxy.kernel.token_estimate import Expected, usage_of
from proxy.testing import ManualClock, call, make_exchange, ok, suppose
from tests.support.asgi import hands_send_on

BODY = b'{"model": "llama3.2", "prompt": "hi"}'
ASYNC = ("Prefer", "respond-async")


def refusing(code: codes.Code, status: int = 503) -> ASGIApp:
    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        await exchange.json()
        exchange.edit({"prompt": "changed"})
        raise Refused(status, "no", code=code)

    return chain


class Place:
    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.journal = MemoryJournal(self.clock)

    def defer(self, app: ASGIApp = ok, **options: Any) -> Defer:
        return Defer(app, journal=self.journal, clock=self.clock, **options)

    async def bodies(self) -> list[bytes | None]:
        return [await self.journal.body(entry.id) for entry in await self.journal.entries(Query())]


@pytest.fixture
def place() -> Place:
    return Place()


def asking(*headers: tuple[str, str], path: str = "/api/generate", **more: Any) -> Exchange:
    return make_exchange(path=path, body=BODY, headers=[ASYNC, *headers], **more)


def plain() -> Exchange:
    return make_exchange(path="/api/generate", body=BODY)


async def test_who_asks_is_told_where_his_answer_will_be(place: Place) -> None:
    exchange = asking()
    answer = await call(place.defer(), exchange)
    told = orjson.loads(answer.body)
    assert (answer.status, answer.header("location")) == (202, f"/-/requests/{told['id']}")
    assert answer.header("preference-applied") == "respond-async"
    assert exchange.deferred == told["id"]
    assert await place.bodies() == [BODY]


@pytest.mark.parametrize("path", ["/api/tags", "/api/pull", "/api/show"])
async def test_only_requests_that_run_a_model_are_kept(place: Place, path: str) -> None:
    method = "GET" if path == "/api/tags" else "POST"
    assert (await call(place.defer(), make_exchange(method, path, body=BODY, headers=[ASYNC]))).status == 200
    assert await place.bodies() == []


async def test_who_does_not_ask_is_passed_on_without_a_trace(place: Place) -> None:
    assert await hands_send_on(place.defer, plain())
    assert (await call(place.defer(), plain())).status == 200


@pytest.mark.parametrize(
    ("when", "asks", "status"),
    [
        ({"asked"}, True, 202),
        ({"asked"}, False, 503),
        ({"full"}, True, 202),
        ({"full"}, False, 202),
        ({"asked_and_full"}, True, 202),
        ({"asked_and_full"}, False, 503),
        ({"asked", "full"}, False, 202),
        (set(), True, 503),
    ],
)
@pytest.mark.parametrize("code", sorted(NO_ROOM))
async def test_where_there_is_no_room(place: Place, when: set[str], asks: bool, status: int, code: codes.Code) -> None:
    plugin = place.defer(refusing(code), when=frozenset(when))
    answer = await call(plugin, asking() if asks else plain())
    assert (answer.error.status if answer.error is not None else answer.status) == status
    assert await place.bodies() == [BODY] * (status == 202)  # as the client sent it


@pytest.mark.parametrize(
    "code", [codes.RATE_LIMIT_EXCEEDED, codes.MODEL_NOT_ALLOWED, codes.NO_BACKEND, codes.INVALID_REQUEST]
)
async def test_any_other_refusal_is_passed_on(place: Place, code: codes.Code) -> None:
    answer = await call(place.defer(refusing(code), when=frozenset({"full"})), plain())
    assert answer.error is not None
    assert answer.error.code == code


async def test_who_did_not_ask_is_told_of_the_queue_where_the_journal_is_full_too(place: Place) -> None:
    plugin = place.defer(refusing(codes.QUEUE_FULL), when=frozenset({"full"}), total=1)
    assert (await call(plugin, plain())).status == 202
    second = await call(plugin, plain())
    assert second.error is not None
    assert second.error.code == codes.QUEUE_FULL
    third = await call(plugin, asking())
    assert third.error is not None
    assert third.error.code == codes.JOURNAL_FULL


async def test_a_turn_that_comes_in_time_is_taken(place: Place) -> None:
    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        suppose(Exchange.of(scope), backend="b1")
        await asyncio.sleep(0)
        await ok(scope, receive, send)

    exchange = make_exchange(path="/api/generate", body=BODY, headers=[("Prefer", "respond-async, wait=1")])
    assert (await call(place.defer(chain), exchange)).status == 200


async def test_a_turn_that_does_not_come_is_waited_for_in_vain(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    exchange = make_exchange(path="/api/generate", body=BODY, headers=[("Prefer", "respond-async, wait=1")])
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, *args, **more: call_later(delay / 100, *args, **more))
    assert (await call(place.defer(chain), exchange)).status == 202
    assert ended.is_set()


@pytest.mark.parametrize("when", ["asked", "asked_and_full"])
async def test_what_was_kept_under_a_key_is_not_answered_live_a_second_time(place: Place, when: str) -> None:
    ran: list[Exchange] = []

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        ran.append(Exchange.of(scope))
        await ok(scope, receive, send)

    key = ("Idempotency-Key", "one")
    first = orjson.loads((await call(place.defer(), asking(key))).body)
    again = make_exchange(path="/api/generate", body=BODY, headers=[("Prefer", "respond-async, wait=9"), key])
    answer = await call(place.defer(chain, when=frozenset({when})), again)
    assert (answer.status, orjson.loads(answer.body)["id"]) == (202, first["id"])
    other = make_exchange(path="/api/generate", body=BODY + b" ", headers=[("Prefer", "respond-async, wait=9"), key])
    refused = await call(place.defer(chain, when=frozenset({when})), other)
    assert refused.error is not None
    assert refused.error.code == "idempotency_key_reused"
    assert not ran


async def test_a_key_whose_request_is_answered_just_now(place: Place) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await goes_on.wait()
        await ok(scope, receive, send)

    def request() -> Exchange:
        headers = [("Prefer", "respond-async, wait=9"), ("Idempotency-Key", "one")]
        return make_exchange(path="/api/generate", body=BODY, headers=headers)

    plugin = place.defer(chain)
    first = asyncio.create_task(call(plugin, request()))
    await begun.wait()
    beside = await call(plugin, request())
    assert beside.error is not None
    assert (beside.error.status, beside.error.code) == (409, "idempotency_key_in_use")
    goes_on.set()
    assert (await first).status == 200
    assert (await call(plugin, request())).status == 200


async def test_a_time_out_of_the_chain_is_not_the_plugins(place: Place) -> None:
    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await call(place.defer(chain, when=frozenset({"full"})), plain())


async def test_a_run_is_passed_on_with_its_id(place: Place) -> None:
    exchange = asking()
    exchange.scope[RUN] = StoredRun("ab", -10, 1.0, lambda: None)
    assert (await call(place.defer(), exchange)).status == 200
    assert exchange.deferred == "ab"


async def test_a_message_of_a_socket_is_not_kept(place: Place) -> None:
    exchange = asking()
    exchange.scope.update({key: value for key, value in inner_scope("POST", "/x").items() if "inner" in key})
    assert (await call(place.defer(), exchange)).status == 200


async def test_what_is_packed_is_kept_unpacked(place: Place) -> None:
    import zstandard

    packed = zstandard.compress(BODY)
    headers = [ASYNC, ("Content-Encoding", "zstd")]
    exchange = make_exchange(path="/v1/chat/completions", body=packed, headers=headers)
    assert (await call(place.defer(), exchange)).status == 202
    assert await place.bodies() == [BODY]


async def test_what_was_kept_counts_when_it_runs(place: Place) -> None:
    exchange = asking()
    await call(place.defer(), exchange)
    assert usage_of(exchange, Expected(100, 1000)) is None


async def test_a_name_of_an_address_that_is_not_allowed(place: Place) -> None:
    answer = await call(place.defer(), asking(("X-Webhook-URL", "https://example.com/")))
    assert answer.error is not None
    assert answer.error.code == "webhook_not_allowed"


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [(asking(), "change"), (plain(), "pass"), (make_exchange("GET", "/api/tags"), "skip")],
)
async def test_explain(place: Place, exchange: Exchange, verdict: str) -> None:
    assert (await place.defer().explain(exchange)).verdict == verdict


def test_its_terms(place: Place) -> None:
    plugin = place.defer(priority="low", attempts=5, parallel=7)
    assert plugin.terms.priority == -1
    assert plugin.running == RunningTerms(5, 7)
    assert place.defer().terms.priority < -1
