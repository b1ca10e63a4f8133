"""The reference page and the JSON Schema of the log, made from the tables that write it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from middleware.logging import fields as request_line
from middleware.logging.fields import Field
from proxy.kernel.log_field_names import ECS, OTEL
from proxy.kernel.log_lines import SCHEMA
from proxy.telemetry.log_events import COMMON, EVENTS, FIELDS, Event

REQUEST: Final = "request"
"""The value of `event` in the line of a request."""

_OPTIONAL: Final = {
    "exception": {"type": "string", "description": FIELDS["exception"][1]},
    "worker": {"type": "integer", "description": FIELDS["worker"][1]},
    "clipped": {
        "const": True,
        "description": "The line was too long: its texts are shortened, or only its head is left.",
    },
}


def log_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a line in `format: json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of the log of ollama-proxy",
        "description": f"Version {SCHEMA} of what a line holds, in `format: json`.",
        "oneOf": [_request(), *map(_event, EVENTS), _foreign()],
    }


def _request() -> dict[str, Any]:
    properties = {
        field.name: _described(field.kind, field.description, nullable=field.read is not None)
        for field in request_line.FIELDS
    }
    return _line(REQUEST, "The line of a request, written when it is over.", properties)


def _event(event: Event) -> dict[str, Any]:
    properties = {name: _described(*about) for name, about in COMMON.items()}
    properties |= {name: _described(*FIELDS[name], nullable=True) for name in event.fields}
    return _line(event.name, event.about, properties)


def _line(name: str, about: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": name,
        "description": about,
        "type": "object",
        "properties": {**properties, "event": {"const": name}, "schema": {"const": SCHEMA}, **_OPTIONAL},
        "required": list(properties),
        "additionalProperties": False,
    }


def _foreign() -> dict[str, Any]:
    """Return the schema of an event of another package's plugin: it has at least the common fields."""
    return {
        "title": "another event",
        "description": "What a plugin of another package logs.",
        "type": "object",
        "properties": {
            **{name: _described(*about) for name, about in COMMON.items()},
            "event": {"type": "string", "not": {"enum": [REQUEST, *(event.name for event in EVENTS)]}},
            "schema": {"const": SCHEMA},
        },
        "required": ["time", "level", "event", "schema"],
    }


def _described(kind: str, about: str, *, nullable: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": [kind, "null"] if nullable else kind, "description": about}
    if kind == "array":
        schema["items"] = {"type": "string"}
    return schema


def log_page() -> str:
    """Return the reference of the log, in Markdown."""
    fields = {name: FIELDS[name] for name in sorted({name for event in EVENTS for name in event.fields})}
    return _PAGE.format(
        schema=SCHEMA,
        request=_rows(_request_row(field) for field in request_line.FIELDS),
        events=_rows((f"`{event.name}`", event.about, _names(event.fields)) for event in EVENTS),
        fields=_rows((f"`{name}`", kind, about) for name, (kind, about) in {**COMMON, **fields}.items()),
    )


def _request_row(field: Field) -> Sequence[str]:
    return f"`{field.name}`", field.kind, field.description, f"`{ECS.name(field.name)}`", f"`{OTEL.name(field.name)}`"


def _names(fields: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in fields)


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_PAGE: Final = """\
# The log

Generated from `middleware/logging/fields.py`, `proxy/telemetry/log_events.py` and `proxy/kernel/log_field_names.py` by
`scripts/generate`; not to be edited here. How to use it says the [guide](../guides/logs.md).
[log.schema.json](log.schema.json) is the JSON Schema of a line in `format: json`.

Each line is one JSON object in UTF-8 of at most 32 KiB, whatever is in it. `schema` is the version of what lines hold,
now {schema}. It grows when a field goes, or changes its name, its type or its meaning; it does not when one is added. A
field has one name, one type and one meaning in all lines. Where several [workers](../guides/workers.md) serve, each
line also has `worker`, after `schema`: the number of the process that wrote it; the parent's own lines have none.

## The line of a request

`event` is `request`. Written by the plugin [logging](plugins.md#logging) when the request is over. Every line has every
field, in this order; null where there is nothing to say. The last two columns are the names in `format: ecs` and
`format: otel`, where fields that say nothing are left out, `event.duration` is in nanoseconds and
`gen_ai.response.time_to_first_chunk` in seconds.

| field | type | what it says | `ecs` | `otel` |
|---|---|---|---|---|
{request}

## Events

What the proxy itself logs. A field is null where nothing is known. Where the cause is an exception, `exception` has its
traceback.

| event | when | fields |
|---|---|---|
{events}

| field | type | what it says |
|---|---|---|
{fields}
"""
