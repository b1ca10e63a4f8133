"""proxy/ops/exchange_document.py."""

import gc
import weakref
from time import monotonic
from typing import Any

import pytest

from proxy.kernel.attempts import Usage
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.ops.exchange_document import Facts, past, phase_of, rate_of, request_of
from proxy.testing import make_exchange, suppose
from tests.support.options import make_backend, make_pool

BODY = b'{"model":"llama3.2","messages":[]}'


async def asked(**changes: Any) -> Exchange:
    exchange = make_exchange(body=BODY, headers=[("content-length", str(len(BODY)))])
    await exchange.body()
    suppose(exchange, **changes)
    return exchange


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({}, "starting"),
        ({"ticket": object()}, "queued"),
        ({"ticket": object(), "lease": object()}, "starting"),
        ({"backend": "b1"}, "waiting"),
        ({"backend": "gone"}, "waiting"),
        ({"backend": "b2"}, "loading"),
        ({"backend": "b1", "first_byte_at": 1.0}, "answering"),
        ({"backend": "b1", "first_byte_at": 1.0, "ended_at": 2.0}, "finished"),
    ],
)
async def test_how_far_a_request_has_got(changes: dict[str, Any], phase: str) -> None:
    exchange = await asked(**changes)
    assert exchange.model is not None
    pool = make_pool([make_backend(name, "http://127.0.0.1:1") for name in ("b1", "b2")])
    pool.backends[1].loading[exchange.model.key] = 1
    assert phase_of(exchange, pool) == phase
    assert request_of(exchange, pool).state == phase


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"chunks": 10}, None),
        ({"first_byte_at": 100.0, "chunks": 1}, None),
        ({"first_byte_at": 100.0, "chunks": 21}, 2.0),
        ({"first_byte_at": 109.9, "chunks": 21}, None),
        ({"first_byte_at": 100.0, "chunks": 20, "ended_at": 105.0, "usage": Usage(3, 50)}, 10.0),
        ({"first_byte_at": 104.0, "chunks": 1, "ended_at": 105.0, "usage": Usage(3, 50), "queued": 90.0}, 10.0),
        ({"first_byte_at": 100.0, "chunks": 20, "ended_at": 105.0, "usage": Usage()}, None),
        ({"first_byte_at": 110.0, "chunks": 20}, None),
    ],
)
async def test_tokens_per_second(changes: dict[str, Any], rate: float | None) -> None:
    exchange = await asked(started_at=5.0 + 5.0, **changes)
    if "queued" in changes:
        suppose(exchange, started_at=10.0)
    assert rate_of(exchange, 110.0) == rate


async def test_what_is_known_is_told_and_no_path_is() -> None:
    exchange = make_exchange("GET", "/k/op_secret/api/tags")
    suppose(exchange, identity="x" * 1000)
    suppose(exchange, error=Refused(401, "y" * 10_000))
    suppose(exchange, ended_at=monotonic() + 2)
    told = request_of(exchange, make_pool([]))
    assert "secret" not in repr(told)
    assert told.route is None
    assert len(told.identity or "") == 256
    assert len(told.error or "") == 512
    assert (told.error_code, told.status) == ("invalid_api_key", None)
    assert told.seconds > 1.9
    assert told.started.endswith("Z")


async def test_of_one_that_waits_the_time_goes_on() -> None:
    exchange = await asked(ticket=object(), started_at=monotonic() - 7)
    assert request_of(exchange, make_pool([])).queued >= 7


async def test_what_is_kept_of_a_request_holds_neither_its_error_nor_its_body() -> None:
    exchange = await asked(ended_at=1.0, error=Refused(503, "busy"), outcome="refused")
    watched = weakref.ref(exchange.error)
    facts = Facts(exchange)
    kept = [getattr(facts, name) for name in Facts.__slots__]
    assert exchange.scope not in kept
    assert BODY not in kept
    del exchange
    gc.collect()
    assert watched() is None
    told = past(facts)
    assert (told.error_code, told.error, told.outcome, told.state) == ("overloaded", "busy", "refused", "finished")
