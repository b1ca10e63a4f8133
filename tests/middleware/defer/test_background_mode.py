"""middleware/defer/background_mode.py."""

import json
from typing import Any

import pytest

from middleware.defer.background_mode import asked_for, in_background, may_ask
from middleware.defer.plugin import Defer
from proxy.journal.memory import MemoryJournal
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.services.system_clock import SystemClock
from proxy.testing import make_exchange, ok


def asking(path: str = "/v1/responses", **members: Any) -> Exchange:
    body = json.dumps({"model": "m", "input": "hi", **members}).encode()
    return make_exchange("POST", path, body=body, headers=[("Content-Type", "application/json")])


@pytest.mark.parametrize(
    ("value", "wanted"), [(True, True), (False, False), (None, False), ("true", False), (1, False)]
)
async def test_only_true_asks_for_it(value: object, wanted: bool) -> None:
    assert await asked_for(asking(background=value)) == wanted


async def test_other_routes_do_not_know_it() -> None:
    exchange = asking("/v1/chat/completions", background=True)
    assert not may_ask(exchange.route)
    assert not await asked_for(exchange)
    assert may_ask(asking().route)
    assert not may_ask(None)


async def test_a_body_that_is_no_json_asks_for_nothing() -> None:
    assert not await asked_for(make_exchange("POST", "/v1/responses", body=b'{"background":true'))


async def test_it_runs_as_a_stream_and_nothing_else_changes() -> None:
    exchange = asking(background=True, stream=False)
    body = await exchange.body()
    asked = await in_background(exchange, body)
    assert asked.body == body.replace(b'"stream": false', b'"stream": true')
    assert not asked.stream
    assert asked.id.startswith("resp_")
    assert len(asked.id) == 37


async def test_a_stream_runs_as_it_was_sent() -> None:
    exchange = asking(background=True, stream=True)
    asked = await in_background(exchange, await exchange.body())
    assert (asked.body, asked.stream) == (await exchange.body(), True)


async def test_what_is_not_stored_cannot_be_fetched() -> None:
    exchange = asking(background=True, store=False)
    await exchange.body()
    with pytest.raises(Refused) as refused:
        await in_background(exchange, b"")
    assert (refused.value.status, refused.value.code) == (400, "background_needs_store")


async def test_explain_says_so() -> None:
    app = Defer(ok, journal=MemoryJournal(SystemClock()), clock=SystemClock())
    assert "in the background" in (await app.explain(asking(background=True))).text
    assert "in the background" not in (await app.explain(asking())).text
