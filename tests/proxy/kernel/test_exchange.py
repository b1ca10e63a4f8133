"""proxy/kernel/exchange.py."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
import zstandard

from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.attempts import Usage
from proxy.kernel.errors import ClientGone, Refused
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.routes import Match, NoMatch
from proxy.testing import call, make_exchange, ok, suppose
from tests.support.options import body_budget
from tests.support.turns import counted_turns

CHAT = b'{"model":"llama3.2","messages":[]}'


def test_of_a_scope() -> None:
    exchange = make_exchange()
    assert Exchange.of(exchange.scope) is exchange
    with pytest.raises(KeyError):
        Exchange.of({"type": "http"})


def test_begins_with_its_route_and_nothing_else() -> None:
    exchange = make_exchange("POST", "/v1/messages", client="192.0.2.7", started_at=4.0)
    assert isinstance(exchange.match, Match)
    assert exchange.route is exchange.match.route
    assert exchange.flavor == "anthropic"
    assert (exchange.client, exchange.started_at, exchange.id) == ("192.0.2.7", 4.0, "test")
    nothing: list[Any] = [exchange.identity, exchange.tenant, exchange.policy, exchange.backend, exchange.status]
    assert nothing == [None] * 5
    assert (exchange.claims, exchange.tried, exchange.response_headers) == ({}, (), [])
    assert (exchange.committed, exchange.gone, exchange.outcome, exchange.usage) == (False, False, None, None)


def test_without_a_route() -> None:
    exchange = make_exchange("GET", "/nowhere")
    assert exchange.match == NoMatch()
    assert exchange.route is None
    assert (exchange.model, exchange.document, exchange.stream) == (None, None, False)


def test_every_attribute_has_a_slot() -> None:
    with pytest.raises(AttributeError):
        make_exchange().other = 1  # type: ignore[attr-defined]


def test_reroute_moves_a_prefix() -> None:
    exchange = make_exchange("GET", "/k/secret/v1/models/qwen3")
    assert exchange.route is None
    exchange.reroute("/k/secret")
    assert (exchange.scope["path"], exchange.scope["root_path"]) == ("/v1/models/qwen3", "/k/secret")
    assert exchange.flavor == "openai"
    assert exchange.model == parse_model("qwen3")


async def test_reroute_forgets_what_was_believed() -> None:
    exchange = make_exchange("GET", "/v1/models/a/v1/models/b")
    await exchange.body()
    assert exchange.model is None
    exchange.reroute("/v1/models/a")
    assert exchange.model == parse_model("b")


# Who may write


def _assigns(ex: Any) -> None:
    ex.status = 200


def _sets(ex: Any) -> None:
    setattr(ex, "identity", "root")  # noqa: B010 (the way around is the point)


def _sets_past_the_class(ex: Any) -> None:
    object.__setattr__(ex, "committed", True)


def _deletes(ex: Any) -> None:
    del ex.tenant


def _clears(ex: Any) -> None:
    ex.tried.clear()


def _appends(ex: Any) -> None:
    ex.history.append("attempt")


def _appends_a_failure(ex: Any) -> None:
    ex.failed.append("failure")


def _adds(ex: Any) -> None:
    ex.tried += ("b9",)


def _claims(ex: Any) -> None:
    ex.claims["roles"] = ["admin"]


def _counts(ex: Any) -> None:
    ex.usage.tokens_out = 0


def _becomes(ex: Any) -> None:
    ex.client = "127.0.0.1"


def _replaces(ex: Any) -> None:
    ex.response_headers = []


WAYS = [
    _assigns, _sets, _sets_past_the_class, _deletes, _clears, _appends, _appends_a_failure, _adds, _claims, _counts,
    _becomes, _replaces,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_a_plugin_cannot_write_what_is_not_its_own(way: Callable[[Any], None]) -> None:
    class Plugin:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            way(Exchange.of(scope))
            await self.app(scope, receive, send)

    exchange = make_exchange(identity="alice", tenant="physics", tried=("b1",), usage=Usage(1, 2))
    before = {name: getattr(exchange, name) for name in READ}
    with pytest.raises((AttributeError, TypeError)):
        await call(Plugin(ok), exchange)
    assert {name: getattr(exchange, name) for name in READ} == before


READ = [name for name, value in vars(Exchange).items() if isinstance(value, property)]


def test_a_header_is_appended_in_either_way() -> None:
    exchange = make_exchange()
    exchange.response_headers.append((b"a", b"1"))
    exchange.response_headers += [(b"b", b"2")]
    assert exchange.response_headers == [(b"a", b"1"), (b"b", b"2")]


# Looking back


def test_finishers_run_last_registered_first_and_once() -> None:
    exchange = make_exchange()
    seen: list[int] = []
    for number in range(3):
        exchange.on_finish(lambda _, number=number: seen.append(number))  # type: ignore[misc]
    for finish in exchange.finishers():
        finish(exchange)
    assert seen == [2, 1, 0]
    with pytest.raises(RuntimeError):
        exchange.on_finish(lambda _: None)
    with pytest.raises(RuntimeError):
        exchange.finishers()


async def test_the_end_gives_back_the_bodys_memory() -> None:
    budget = body_budget()
    exchange = make_exchange(body=CHAT, bodies=budget)
    await exchange.body()
    assert budget.held == len(CHAT)
    exchange.finishers()
    assert budget.held == 0


# Releasing the body


async def test_what_is_known_of_a_body_outlives_it() -> None:
    budget = body_budget()
    exchange = make_exchange(body=b'{"model":"a","stream":false}', bodies=budget)
    await exchange.body()
    seen: list[Any] = []
    exchange.before_body_release(lambda exchange: seen.append(exchange.document))
    edition = exchange.edition
    exchange.release_body()
    assert seen == [{"model": "a", "stream": False}]
    assert (exchange.document, exchange.stream, exchange.model) == (None, False, parse_model("a"))
    assert (exchange.edition, budget.held) == (edition, 0)
    for read in (exchange.body, exchange.json, exchange.names):
        with pytest.raises(RuntimeError, match="let go"):
            await read()
    exchange.rewind()
    assert await exchange.receive() == {"type": "http.disconnect"}
    exchange.release_body()
    exchange.finishers()
    assert (len(seen), budget.held) == (1, 0)


async def test_the_last_look_is_at_the_end_where_no_answer_began() -> None:
    exchange = make_exchange(body=CHAT)
    await exchange.body()
    seen: list[Any] = []
    exchange.before_body_release(lambda exchange: seen.append(exchange.document))
    exchange.finishers()
    assert seen == [{"model": "llama3.2", "messages": []}]


async def test_a_body_counts_for_its_caller() -> None:
    budget = body_budget()
    exchange = make_exchange(body=CHAT, bodies=budget)
    suppose(exchange, identity="alice")
    await exchange.body()
    assert budget.of(exchange.caller) == budget.held == len(CHAT)


async def test_a_body_that_came_before_its_caller_was_known_is_his_later() -> None:
    budget = body_budget()
    exchange = make_exchange(body=CHAT, client="192.0.2.1", bodies=budget)
    await exchange.body()
    assert budget.of("at 192.0.2.1") == len(CHAT)
    suppose(exchange, identity="alice")
    await exchange.body()
    assert (budget.of("by alice"), budget.callers) == (len(CHAT), 1)


# The body


@pytest.mark.parametrize("parts", [[CHAT], [CHAT[:5], CHAT[5:]], [b"", CHAT, b""], [bytes([byte]) for byte in CHAT]])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_is_read_once(parts: list[bytes], declared: bool) -> None:
    budget = body_budget()
    headers = [("content-length", str(len(CHAT)))] if declared else []
    exchange = make_exchange(body=parts, headers=headers, bodies=budget)
    assert await exchange.body() == CHAT
    assert await exchange.body() is await exchange.body()
    assert budget.held == len(CHAT)


async def test_an_unread_body_is_passed_on_as_it_comes() -> None:
    exchange = make_exchange(body=[b"a", b"b"])
    assert await exchange.receive() == {"type": "http.request", "body": b"a", "more_body": True}
    assert await exchange.receive() == {"type": "http.request", "body": b"b", "more_body": False}


async def test_where_everybody_is_answered_no_body_is_read() -> None:
    budget = body_budget()
    exchange = make_exchange("GET", "/", body=CHAT, headers=[("content-length", str(len(CHAT)))], bodies=budget)
    assert await exchange.body() == b""
    assert budget.held == 0
    assert await exchange.receive() == {"type": "http.request", "body": CHAT, "more_body": False}


async def test_a_read_body_is_handed_out_again() -> None:
    exchange = make_exchange(body=[CHAT[:5], CHAT[5:]])
    whole: Message = {"type": "http.request", "body": CHAT, "more_body": False}
    await exchange.body()
    assert await exchange.receive() == whole
    assert await exchange.receive() == {"type": "http.disconnect"}
    exchange.rewind()
    assert await exchange.receive() == whole


async def test_rewinding_an_unread_body_does_nothing() -> None:
    exchange = make_exchange(body=CHAT)
    exchange.rewind()
    assert (await exchange.receive())["body"] == CHAT


async def test_a_client_that_leaves_while_sending() -> None:
    exchange = make_exchange(body=CHAT)
    await exchange.receive()
    with pytest.raises(ClientGone):
        await exchange.body()


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_its_bound(declared: bool) -> None:
    budget = body_budget(each=10)
    exchange = make_exchange(
        body=[b"x" * 8, b"x" * 8], headers=[("content-length", "16")] if declared else [], bodies=budget
    )
    with pytest.raises(Refused) as caught:
        await exchange.body()
    assert caught.value.status == 413
    if declared:
        assert (await exchange.receive())["body"] == b"x" * 8  # nothing was read
    exchange.finishers()
    assert budget.held == 0


async def test_put_body_replaces_it_for_everybody() -> None:
    exchange = make_exchange(body=b'{"model":"a","stream":false}')
    assert (await exchange.json(), exchange.stream, exchange.model) == (
        {"model": "a", "stream": False}, False, parse_model("a"),
    )  # fmt: skip
    exchange.put_body(b'{"model":"b"}')
    assert (exchange.document, exchange.stream, exchange.model) == ({"model": "b"}, True, parse_model("b"))
    assert await exchange.names() == {"model": "b"}
    assert (await exchange.receive())["body"] == b'{"model":"b"}'


# What it says


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"model":"a","model":"b"}', b'{"Model":"a"}', b"{} {}"])
async def test_json_is_strict(body: bytes) -> None:
    exchange = make_exchange(body=body)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await exchange.json()
        assert caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "document", "model"),
    [
        (b"", None, None),
        (b"[]", None, None),
        (b'{"model":"a","model":"b"}', {"model": "b"}, "b"),
        (b'{"model":1}', {"model": 1}, None),
        (b'{"model":"a b"}', {"model": "a b"}, None),
        (CHAT, {"model": "llama3.2", "messages": []}, "llama3.2"),
    ],
)
async def test_hints_are_lenient(body: bytes, document: object, model: str | None) -> None:
    exchange = make_exchange(body=body)
    assert (exchange.document, exchange.model) == (None, None)
    await exchange.body()
    assert exchange.document == document
    assert exchange.model == (parse_model(model) if model else None)


async def test_a_hint_is_not_taken_for_a_check() -> None:
    exchange = make_exchange(body=b'{"model":"a","model":"b"}')
    await exchange.body()
    assert exchange.model == parse_model("b")
    with pytest.raises(Refused, match="twice"):
        await exchange.json()
    with pytest.raises(Refused, match="twice"):
        await exchange.names()


@pytest.mark.parametrize(
    ("path", "body", "stream"),
    [
        ("/api/chat", b"{}", True),
        ("/api/chat", b'{"stream":false}', False),
        ("/api/chat", b'{"stream":null}', True),
        ("/api/chat", b'{"stream":"no"}', True),
        ("/v1/chat/completions", b"{}", False),
        ("/v1/chat/completions", b'{"stream":true}', True),
        ("/api/embed", b'{"stream":true}', False),
        ("/api/pull", b"{}", True),
    ],
)
async def test_stream(path: str, body: bytes, stream: bool) -> None:
    exchange = make_exchange(path=path, body=body)
    await exchange.body()
    assert exchange.stream is stream


# Edits


async def test_an_edit_changes_body_and_document_alike() -> None:
    exchange = make_exchange(body=b'{ "model" : "a" , "options": {"num_ctx": 9} }')
    await exchange.json()
    exchange.edit({"model": "b", "options": {"num_ctx": 8, "seed": 1}})
    assert await exchange.body() == b'{ "model" : "b" , "options": {"seed":1,"num_ctx": 8} }'
    assert await exchange.json() == {"model": "b", "options": {"num_ctx": 8, "seed": 1}}
    assert (exchange.model, await exchange.names()) == (parse_model("b"), {"model": "b"})
    assert (await exchange.receive())["body"] == await exchange.body()


async def test_edits_add_up() -> None:
    exchange = make_exchange(body=CHAT)
    await exchange.json()
    exchange.edit({"keep_alive": 1})
    exchange.edit({"keep_alive": 2, "options": {"seed": 1}})
    assert await exchange.body() == b'{"options":{"seed":1},"keep_alive":2,' + CHAT[1:]


async def test_only_what_was_checked_is_edited() -> None:
    exchange = make_exchange(body=b'{"model":"a","model":"b"}')
    await exchange.body()
    assert exchange.document == {"model": "b"}
    with pytest.raises(RuntimeError):
        exchange.edit({"model": "c"})


async def test_an_unchanged_encoded_body_is_forwarded_as_it_came() -> None:
    encoded = zstandard.compress(CHAT)
    exchange = make_exchange(path="/v1/chat/completions", body=encoded, headers=[("content-encoding", "zstd")])
    assert await exchange.json() == {"model": "llama3.2", "messages": []}
    assert exchange.model == parse_model("llama3.2")
    assert await exchange.body() == encoded
    assert exchange.scope["headers"] == [(b"content-encoding", b"zstd")]


async def test_an_edited_encoded_body_goes_out_plain() -> None:
    headers = [("content-encoding", "zstd"), ("user-agent", "x")]
    exchange = make_exchange(path="/v1/chat/completions", body=zstandard.compress(CHAT), headers=headers)
    await exchange.json()
    exchange.edit({"model": "b"})
    assert await exchange.body() == CHAT.replace(b"llama3.2", b"b")
    assert exchange.scope["headers"] == [(b"user-agent", b"x")]


async def test_an_encoded_body_that_cannot_be_read_is_no_hint() -> None:
    exchange = make_exchange(body=CHAT, headers=[("content-encoding", "gzip")])
    await exchange.body()
    assert (exchange.document, exchange.model) == (None, None)
    with pytest.raises(Refused) as caught:
        await exchange.json()
    assert caught.value.status == 415


def test_it_says_where_it_stands() -> None:
    exchange = make_exchange()
    suppose(exchange, identity="alice", backend="gpu-1")
    assert repr(exchange) == ("<Exchange test POST /api/chat by alice at gpu-1 status=None chunks=0 outcome=None>")
    assert exchange.scope[KEY] is exchange


# A long body

LONG = b'{ "model" : "llama3.2", "stream":false, "prompt":"' + b"words " * 20_000 + b'"}'


async def test_of_a_long_body_hints_are_there_once_it_has_been_read() -> None:
    exchange = make_exchange(path="/api/generate", body=LONG)
    assert (exchange.document, exchange.model) == (None, None)
    assert await exchange.body() == LONG
    assert exchange.document == await exchange.json() == orjson.loads(LONG)
    assert (exchange.model, exchange.stream) == (parse_model("llama3.2"), False)


@pytest.mark.parametrize("encoded", [False, True])
async def test_the_loop_goes_on_while_a_long_body_is_read(encoded: bool) -> None:
    body = b'{"model":"a","x":[' + b",".join([b'{"a": 1}'] * 40_000) + b"]}"
    headers = [("content-encoding", "zstd")] if encoded else []
    packed = body if not encoded else zstandard.compress(body)
    exchange = make_exchange(path="/v1/chat/completions", body=packed, headers=headers)
    async with counted_turns() as turns:
        with suppress(Refused):
            await exchange.json()
    assert turns.made > 2  # read on the loop it would have been one


async def test_a_long_body_is_edited_when_it_is_asked_for() -> None:
    exchange = make_exchange(path="/api/generate", body=LONG)
    await exchange.json()
    exchange.edit({"model": "b"})
    exchange.edit({"keep_alive": 1})
    assert exchange.model == parse_model("b")
    edited = b'{"keep_alive":1,' + LONG[1:].replace(b'"llama3.2"', b'"b"')
    assert (await exchange.receive())["body"] == edited
    assert await exchange.body() == edited
    assert await exchange.json() == orjson.loads(edited)
    exchange.put_body(CHAT)
    assert await exchange.body() == CHAT
    assert exchange.model == parse_model("llama3.2")


async def test_a_long_body_that_was_put_is_read_when_it_is_asked_for() -> None:
    exchange = make_exchange(path="/api/generate", body=CHAT)
    await exchange.body()
    exchange.put_body(LONG)
    assert exchange.document is None
    await exchange.body()
    assert exchange.document == orjson.loads(LONG)


async def test_every_change_makes_another_edition() -> None:
    exchange = make_exchange(path="/api/generate", body=LONG)
    editions = [exchange.edition]
    for change in (exchange.body, exchange.json, exchange.names):
        await change()
        editions.append(exchange.edition)
    assert editions[0] < editions[1] == editions[2] == editions[3]
    exchange.edit({"model": "b"})
    exchange.put_body(CHAT)
    assert exchange.edition > editions[-1] + 1


# Letting go


async def test_whoever_needs_the_body_later_looks_before_it_goes() -> None:
    exchange = make_exchange(body=CHAT)
    seen: list[object] = []
    exchange.before_body_release(lambda exchange: seen.append(exchange.document))
    await exchange.body()
    exchange.release_body()
    exchange.release_body()
    exchange.finishers()
    assert seen == [orjson.loads(CHAT)]
    assert exchange.document is None
    assert (exchange.model, exchange.stream) == (parse_model("llama3.2"), True)


async def test_without_an_answer_there_is_a_look_at_the_end() -> None:
    exchange = make_exchange(body=CHAT)
    seen: list[object] = []
    exchange.before_body_release(lambda exchange: seen.append(exchange.document))
    await exchange.body()
    exchange.finishers()
    assert seen == [orjson.loads(CHAT)]


async def test_real_bodies_are_far_from_the_bounds() -> None:
    properties = {f"p{number}": {"type": "string", "description": "what it is"} for number in range(20)}
    function = {"name": "search", "parameters": {"type": "object", "properties": properties}}
    turns = [{"role": "user", "content": f"turn {number}: why is the sky blue?"} for number in range(10_000)]
    documents: list[dict[str, Any]] = [
        {"model": "a", "messages": turns, "tools": [{"type": "function", "function": function}] * 128},
        {"model": "a", "context": list(range(256_000))},
        {"model": "a", "input": [f"passage {number} of some words " * 20 for number in range(10_000)]},
    ]
    for document in documents:
        body = orjson.dumps(document)
        assert await make_exchange(path="/v1/responses", body=body).json() == document
        packed, headers = zstandard.compress(body), [("content-encoding", "zstd")]
        assert await make_exchange(path="/v1/responses", body=packed, headers=headers).json() == document


@pytest.mark.parametrize(
    ("identity", "client", "caller"),
    [
        ("alice", "192.0.2.7", "by alice"),
        (None, "192.0.2.7", "at 192.0.2.7"),
        (None, "2001:db8:1:2:3:4:5:6", "at 2001:db8:1:2::/64"),
        (None, "unix", "at unix"),
        ("192.0.2.7", "192.0.2.8", "by 192.0.2.7"),
    ],
)
def test_who_counts_as_one(identity: str | None, client: str, caller: str) -> None:
    exchange = make_exchange()
    suppose(exchange, identity=identity, client=client)
    assert exchange.caller == caller
