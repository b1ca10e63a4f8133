"""The names of Elastic and of OpenTelemetry."""

import json
from typing import Any

import pytest

from middleware.logging import fields
from proxy.kernel.log_field_names import ECS, OTEL, Dialect
from proxy.kernel.log_lines import FORMATS
from proxy.telemetry.log_events import COMMON, FIELDS

OURS = {field.name for field in fields.FIELDS} | set(COMMON) | set(FIELDS)
EVENT: dict[str, Any] = {
    "time": "2026-01-31T23:59:59.999Z",
    "level": "info",
    "event": "request",
    "schema": 1,
    "request_id": "a1",
    "tenant": "physics",
    "model": "llama3.2:latest",
    "status": 200,
    "ttft_ms": 500.0,
    "total_ms": 2500.125,
    "tokens_out": 100,
    "done_reason": "stop",
    "identity": None,
    "acme_special": 1,
}


@pytest.mark.parametrize("dialect", [ECS, OTEL], ids=["ecs", "otel"])
def test_every_name_in_the_table_is_one_of_ours_and_goes_to_one_of_theirs(dialect: Dialect) -> None:
    assert set(dialect.names) <= OURS
    assert set(dialect.values) <= set(dialect.names)
    for names in ({field.name for field in fields.FIELDS}, set(COMMON) | set(FIELDS)):
        theirs = [dialect.name(name) for name in names]
        assert len(theirs) == len(set(theirs))


def test_ecs() -> None:
    assert json.loads(FORMATS["ecs"](EVENT)) == {
        "@timestamp": "2026-01-31T23:59:59.999Z",
        "log.level": "info",
        "event.action": "request",
        "ollama_proxy.schema": 1,
        "http.request.id": "a1",
        "organization.name": "physics",
        "gen_ai.request.model": "llama3.2:latest",
        "http.response.status_code": 200,
        "ollama_proxy.ttft_ms": 500.0,
        "event.duration": 2_500_125_000,
        "gen_ai.usage.output_tokens": 100,
        "gen_ai.response.finish_reasons": ["stop"],
        "ollama_proxy.acme_special": 1,
        "ecs.version": "9.1.0",
        "service.name": "ollama-proxy",
    }


def test_otel() -> None:
    assert json.loads(FORMATS["otel"](EVENT)) == {
        "timestamp": "2026-01-31T23:59:59.999Z",
        "severity_text": "info",
        "event_name": "request",
        "ollama_proxy.schema": 1,
        "ollama_proxy.request_id": "a1",
        "ollama_proxy.tenant": "physics",
        "gen_ai.request.model": "llama3.2:latest",
        "http.response.status_code": 200,
        "gen_ai.response.time_to_first_chunk": 0.5,
        "ollama_proxy.total_ms": 2500.125,
        "gen_ai.usage.output_tokens": 100,
        "gen_ai.response.finish_reasons": ["stop"],
        "ollama_proxy.acme_special": 1,
        "service.name": "ollama-proxy",
    }


@pytest.mark.parametrize("format", ["ecs", "otel"])
@pytest.mark.parametrize("event", [{"total_ms": "x", "ttft_ms": [1], "done_reason": object(), 1: 2}, {}])
def test_what_it_cannot_make_sense_of_is_no_error(format: Any, event: Any) -> None:
    assert json.loads(FORMATS[format](event))["service.name"] == "ollama-proxy"


@pytest.mark.parametrize("format", ["ecs", "otel"])
def test_lines_stay_lines(format: Any) -> None:
    line = FORMATS[format]({"event": "x", "model": "a\n\u2028\x1b[31m", "user_agent": "x" * 100_000})
    assert len(line.decode().splitlines()) == 1
    assert b"\x1b" not in line
    assert len(line) <= 32 * 1024
