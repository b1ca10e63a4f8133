"""The table of fields: what each takes from an exchange, and what is made of the table."""

from typing import Any

import pytest

from middleware.logging.fields import FIELDS
from proxy.kernel.attempts import Usage
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange, suppose

CHAT = b'{"model":"LLAMA3","messages":[]}'


async def finished(**changes: Any) -> dict[str, Any]:
    """Return the fields of a chat that ran from 10.0 to 12.5, its first byte at 10.5, with `changes` to it."""
    exchange = make_exchange(body=CHAT, headers=[("user-agent", "ollama-python/0.6")], started_at=10.0)
    await exchange.body()
    settings: dict[str, Any] = {"status": 200, "outcome": "completed", "first_byte_at": 10.5, "ended_at": 12.5}
    suppose(exchange, **(settings | changes))
    return fields(exchange)


def fields(exchange: Exchange) -> dict[str, Any]:
    return {field.name: field.read(exchange) for field in FIELDS if field.read is not None}


async def test_a_completed_chat() -> None:
    usage = Usage(tokens_in=26, tokens_out=100, done_reason="stop")
    line = await finished(
        identity="alice", tenant="physics", policy="research", backend="gpu-1", attempts=1, reason="least busy",
        queued=0.25, queue_position=3, queue_reason="slots", chunks=101, bytes_in=31, bytes_out=9000, usage=usage,
        generation=3, terminated=True,
    )  # fmt: skip
    assert line == {
        "request_id": "test", "identity": "alice", "tenant": "physics", "policy": "research",
        "end_user": None, "dropped": None,
        "client_address": "127.0.0.1", "user_agent": "ollama-python/0.6", "method": "POST", "route": "/api/chat",
        "path": None, "model": "llama3:latest", "model_asked": None, "backend": "gpu-1", "attempts": 1,
        "reason": "least busy", "gave_up": None, "status": 200, "outcome": "completed", "error_code": None,
        "error": None, "error_plugin": None, "queue_ms": 250.0, "queue_position": 3, "queue_reason": "slots",
        "ttft_ms": 500.0, "total_ms": 2500.0, "chunks": 101, "heartbeats": 0, "bytes_in": 31, "bytes_out": 9000,
        "tokens_in": 26, "tokens_out": 100, "tokens_source": "reported", "tokens_per_second": 50.0,
        "done_reason": "stop", "terminated": True, "detached": False, "deferred": None,
        "config_generation": 3, "trace_id": None,
    }  # fmt: skip


async def test_a_refusal_says_who_refused_and_why() -> None:
    error = Refused(429, "too many requests: 60 per minute")
    error.by = "rate_limit"
    line = await finished(error=error, status=429, outcome="refused", first_byte_at=None)
    assert (line["error_code"], line["error_plugin"]) == ("rate_limit_exceeded", "rate_limit")
    assert line["error"] == "too many requests: 60 per minute"
    assert line["ttft_ms"] is None


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"usage": None}, None),
        ({"usage": Usage(tokens_in=3)}, None),
        ({"usage": Usage(tokens_out=0)}, None),
        ({"usage": Usage(tokens_out=10), "chunks": 11}, 5.0),
        ({"usage": Usage(tokens_out=10), "chunks": 1}, 4.0),  # in one piece: it took all the time
        ({"usage": Usage(tokens_out=10), "chunks": 1, "queued": 0.5}, 5.0),
        ({"usage": Usage(tokens_out=10), "chunks": 11, "first_byte_at": 12.5}, None),
    ],
)
async def test_tokens_per_second(changes: dict[str, Any], rate: float | None) -> None:
    assert (await finished(**changes))["tokens_per_second"] == rate


async def test_what_strangers_send_is_bounded() -> None:
    exchange = make_exchange(
        "X" * 1000,
        "/" + "y/" * 1000,
        headers=[("user-agent", "z" * 1000)],
    )
    line = fields(exchange)
    assert {name: len(line[name]) for name in ("method", "path", "user_agent")} == {
        "method": 256,
        "path": 256,
        "user_agent": 256,
    }


def test_every_field_is_described() -> None:
    assert all(field.description.endswith(".") for field in FIELDS)
    assert len({field.name for field in FIELDS}) == len(FIELDS)
