"""`streaming`, which only says how answers are passed on; tests/proxy/relay and tests/live show that they are."""

import pytest

from middleware.streaming import Streaming
from proxy.kernel.errors import Unterminated
from proxy.kernel.explain import Verdict
from proxy.testing import call, make_exchange, ok
from tests.support.asgi import assert_not_wrapped


async def test_it_hands_requests_on_as_they_came() -> None:
    answer = await call(Streaming(ok), make_exchange())
    assert (answer.status, answer.body) == (200, b"ok")
    await assert_not_wrapped(Streaming)


@pytest.mark.parametrize("rule", ["auto", "pass", "error"])
async def test_it_writes_its_rule_to_the_exchange(rule: Unterminated) -> None:
    exchange = make_exchange()
    await call(Streaming(ok, unterminated=rule), exchange)
    assert exchange.unterminated == rule


async def test_without_options_it_is_what_holds_without_it() -> None:
    exchange, other = make_exchange(), make_exchange()
    await call(Streaming(ok), exchange)
    assert exchange.unterminated == other.unterminated == "auto"


async def test_what_is_no_request_passes() -> None:
    seen: list[str] = []

    async def inner(scope: dict[str, str], receive: object, send: object) -> None:
        seen.append(scope["type"])

    await Streaming(inner)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("path", "verdict", "rule"),
    [("/api/chat", "pass", "error"), ("/api/embed", "skip", "auto"), ("/api/pull", "skip", "auto")],
)
async def test_explaining(path: str, verdict: Verdict, rule: Unterminated) -> None:
    exchange = make_exchange("POST", path)
    explanation = await Streaming(ok, unterminated="error").explain(exchange)
    assert (explanation.verdict, exchange.unterminated) == (verdict, rule)
