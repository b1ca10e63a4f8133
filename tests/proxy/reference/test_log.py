"""The reference of the log and its JSON Schema."""

import re
from typing import Any

import jsonschema
import pytest

from middleware.logging import fields
from proxy.reference.log import log_page, log_schema
from proxy.telemetry.log_events import COMMON, EVENTS, FIELDS

SCHEMA = log_schema()
HEAD: dict[str, Any] = {"time": "2026-01-31T23:59:59.999Z", "level": "info", "schema": 1}


def request(**changes: Any) -> dict[str, Any]:
    return {field.name: None for field in fields.FIELDS} | HEAD | {"event": "request"} | changes


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "line",
    [
        request(),
        request(status=200, total_ms=1, ttft_ms=0.5, tokens_out=3, clipped=True),
        {**HEAD, "event": "store_back", "logger": "ollama_proxy.store", "store": "redis://x"},
        {**HEAD, "event": "ticks_failed", "logger": "ollama_proxy.ops", "exception": "Traceback"},
        {**HEAD, "event": "acme_happened", "anything": [1]},
    ],
)
def test_good_lines(line: dict[str, Any]) -> None:
    jsonschema.validate(line, SCHEMA)


@pytest.mark.parametrize(
    "line",
    [
        request(status="200"),
        request(schema=2),
        request(unheard_of=1),
        {name: value for name, value in request().items() if name != "route"},
        {**HEAD, "event": "store_back", "logger": "ollama_proxy.store"},
        {**HEAD, "event": "store_back", "logger": "ollama_proxy.store", "store": "x", "more": 1},
        {"event": "acme_happened"},
    ],
)
def test_bad_lines(line: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line, SCHEMA)


def test_the_page_has_every_field_and_event_and_no_other() -> None:
    first = re.findall(r"^\| `([a-z_]+)` \|", log_page(), re.MULTILINE)
    used = sorted({name for event in EVENTS for name in event.fields})
    assert first == [*(field.name for field in fields.FIELDS), *(event.name for event in EVENTS), *COMMON, *used]
    assert set(used) | {"exception"} == set(FIELDS)
