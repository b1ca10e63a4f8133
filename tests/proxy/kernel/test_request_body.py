"""proxy/kernel/request_body.py; what it says, and when, tests/proxy/kernel/test_exchange.py shows."""

from typing import Any

import pytest

from proxy.kernel.asgi import Message
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.request_body import RequestBody
from proxy.kernel.routes import NoMatch, RouteTable
from proxy.testing import make_exchange
from tests.support.options import body_budget

CHAT = b'{"model":"llama3.2","stream":false}'


def body_of(*messages: Message, budget: BodyBudget | None = None) -> tuple[RequestBody, dict[str, Any]]:
    waiting = list(messages or [{"type": "http.request", "body": CHAT, "more_body": False}])
    scope: dict[str, Any] = {"type": "http", "headers": [(b"content-length", b"35")]}

    async def source() -> Message:
        return waiting.pop(0)

    body = RequestBody(scope, source, budget or body_budget())
    body.reroute(RouteTable().match("POST", "/api/chat", b""))
    return body, scope


async def test_it_is_read_parsed_edited_and_let_go_of() -> None:
    budget = body_budget()
    body, _ = body_of(budget=budget)
    assert (body.is_read, body.document, body.edition, repr(body)) == (
        False,
        None,
        1,
        "<RequestBody unread, edition 1>",
    )
    body.charge("by alice")
    assert await body.read() == CHAT
    assert (body.is_read, body.edition, budget.of("by alice")) == (True, 2, len(CHAT))
    assert await body.json() == {"model": "llama3.2", "stream": False}
    body.edit({"model": "b"})
    assert await body.read() == CHAT.replace(b"llama3.2", b"b")
    body.release()
    assert (body.document, body.stream, body.model and body.model.short, budget.held) == (None, False, "b:latest", 0)
    assert repr(body) == "<RequestBody released, edition 3>"
    with pytest.raises(RuntimeError, match="let go"):
        body.charge("by alice")


async def test_it_is_handed_out_once_for_each_reason() -> None:
    body, _ = body_of()
    assert not body.begins_again()
    body.rewind()
    assert not body.begins_again()
    body.charge("at 192.0.2.1")
    await body.read()
    assert [body.begins_again(), body.begins_again()] == [True, False]
    body.rewind()
    assert [body.begins_again(), body.begins_again()] == [True, False]
    body.put(b"{}")
    assert [body.begins_again(), body.begins_again()] == [True, False]


async def test_of_no_route_nothing_is_known() -> None:
    body, _ = body_of()
    body.charge("at 192.0.2.1")
    await body.read()
    body.reroute(NoMatch())
    assert (body.document, body.model, body.stream, await body.names()) == (None, None, False, {})


async def test_a_second_attempt_has_the_same_body_and_changes_its_own() -> None:
    budget = body_budget()
    body, scope = body_of(budget=budget)
    body.charge("by alice")
    await body.read()
    body.begins_again()
    second = body.for_second_attempt({**scope})
    second.rewind()
    assert (second.begins_again(), body.begins_again()) == (True, False)
    assert await second.read() is await body.read()
    second.put(b"{}")
    assert (await second.read(), await body.read()) == (b"{}", CHAT)
    second.release()
    assert (await body.read(), budget.held) == (CHAT, 0)


async def test_no_body_keeps_its_exchange() -> None:
    """A reference from the body to the exchange would be a cycle, which waits for the garbage collector."""
    exchange = make_exchange(body=CHAT)
    await exchange.json()
    body = exchange._body
    assert exchange not in [getattr(body, name) for name in RequestBody.__slots__]
