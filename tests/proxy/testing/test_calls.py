"""proxy/testing/calls.py: an answer is what was sent, and the end of the request is as the frame makes it."""

import pytest

from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.testing import call, make_exchange, ok


async def test_an_answer() -> None:
    exchange = make_exchange()
    exchange.response_headers.append((b"x-more", b"1"))
    answer = await call(ok, exchange)
    assert (answer.status, answer.body, answer.chunks, answer.complete) == (200, b"ok", [b"ok"], True)
    assert (answer.header("content-type"), answer.header("x-more"), answer.header("x")) == ("text/plain", "1", None)
    assert answer.error is None
    assert (exchange.status, exchange.outcome) == (200, "completed")


async def test_an_answer_that_is_not_complete() -> None:
    async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    answer = await call(breaks_off, make_exchange())
    assert (answer.body, answer.complete) == (b"a", False)


async def test_finishers_run_after_an_answer_and_after_a_refusal() -> None:
    seen: list[tuple[str, int | None]] = []

    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(403, "no")

    async def late(exchange: Exchange) -> None:
        seen.append(("awaited", exchange.status))

    for app in (ok, refuses):
        exchange = make_exchange()
        exchange.on_finish(lambda exchange: seen.append((str(exchange.outcome), exchange.status)))
        exchange.on_finish(late)
        answer = await call(app, exchange)
        assert answer.error is exchange.error
    assert answer.error is not None
    assert answer.error.status == 403
    assert sorted(name for name, _ in seen) == ["awaited", "awaited", "completed", str(answer.error.outcome)]


async def test_how_the_request_ended_may_be_given_and_a_bug_is_raised() -> None:
    exchange = make_exchange()
    await call(ok, exchange, outcome="client_gone")
    assert exchange.outcome == "client_gone"

    async def bug(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(bug, make_exchange())
