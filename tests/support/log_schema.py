"""Holds lines of the log against their JSON Schema."""

import re
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator

from proxy.reference.log import log_schema

_SCHEMAS: Final[dict[str, Any]] = {
    schema["properties"]["event"].get("const", ""): schema for schema in log_schema()["oneOf"]
}
_VALIDATORS: Final = {event: Draft202012Validator(schema) for event, schema in _SCHEMAS.items()}
_CREDENTIAL: Final = re.compile(
    rb"op_\w{12}_\w{20,}|eyJ[\w-]{10,}\.[\w-]{10,}|(?i:bearer|basic) [\w.~+/=-]{16,}|-----BEGIN"
)
"""What keys, tokens and headers of all tests look like."""
_SEEN: Final[set[tuple[object, ...]]] = set()
"""What lines looked like that were good: the schema tells lines apart by names and types alone."""


def check_line(line: bytes) -> None:
    """Fail where a line of `format: json` is not what the schema says, or any line has a credential in it."""
    assert not _CREDENTIAL.search(line), f"a credential is in the log: {line.decode()}"
    if not line.startswith(b'{"time":'):
        return
    event: dict[str, Any] = orjson.loads(line)
    shape = (event["event"], *((name, type(value)) for name, value in event.items()))
    if shape in _SEEN:
        return
    validator = _VALIDATORS.get(str(event["event"]), _VALIDATORS[""])
    errors = [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(event)]
    assert not errors, f"{line.decode()} is not what docs/reference/log.schema.json says: {errors}"
    if not any(isinstance(value, list) for value in event.values()):  # whose items would have types, too
        _SEEN.add(shape)
