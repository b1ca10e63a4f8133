"""Zero and next to nothing: what every option with a number makes of them, the ones that are yet to come included.

A number of nothing means *never* to one reader and *at once* to another. So it is refused, unless the option's own
documentation says what it means.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from config.problems import Invalid
from config.settings import Settings
from middleware import BUILTIN
from middleware.parameters.rules import Rule
from proxy.app import check
from proxy.chain.plugin_lookup import find
from proxy.kernel.units import Rate
from tests.support.policy import load_text

NOTHINGS: list[Any] = [0, 0.0, "0s", "0ms", "0B", "0KiB", "0%", "0/minute"]
NOTHINGS += [wrapped for nothing in NOTHINGS for wrapped in ([nothing], {"x": nothing})]
SAYS = re.compile(r"(?<![\w.])0(s|B|%)?(?![\w.])")
"""In the documentation of an option that has a meaning for it."""
OPTIONS: dict[str, type[BaseModel]] = {"": Settings, **{name: find(name).options for name in BUILTIN}}


def fields(model: type[BaseModel], path: str) -> Iterator[tuple[str, Any, str]]:
    """Every option below `model`, as its path, its type and its documentation."""
    for name, field in model.model_fields.items():
        place = f"{path}.{field.alias or name}".lstrip(".")
        yield place, Annotated[(field.annotation, *(field.metadata or [None]))], field.description or ""
        for inner in models(field.annotation):
            yield from fields(inner, place)


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not issubclass(annotation, Rule):  # its numbers are those of requests, and judged as such
            yield annotation
        return
    for part in get_args(annotation):
        yield from models(part)


def is_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(is_nothing, value.values()))
    if isinstance(value, tuple | list):
        return any(map(is_nothing, value))
    if isinstance(value, Rate):
        return not value.amount
    return isinstance(value, int | float) and not isinstance(value, bool) and not value


ALL = [
    pytest.param(kind, description, id=path)
    for name, model in OPTIONS.items()
    for path, kind, description in fields(model, name)
]


def test_there_are_options() -> None:
    assert len(ALL) > 150


@pytest.mark.parametrize(("kind", "description"), ALL)
def test_nothing_is_refused_or_has_a_meaning_that_is_told(kind: Any, description: str) -> None:
    if kind.__origin__ is SecretStr:
        return
    adapter = TypeAdapter(kind)
    for nothing in NOTHINGS:
        try:
            value = adapter.validate_json(json.dumps(nothing), strict=True)
        except ValidationError:
            continue
        assert not is_nothing(value) or SAYS.search(description), f"{nothing!r} is taken, and nothing says what for"


BACKEND = "backends: [{name: gpu-1, url: 'http://127.0.0.1:11434'}]\n"


@pytest.mark.parametrize(
    "text",
    [
        "pool: {timeouts: {total: 1ms}}",
        "pool: {timeouts: {first_byte: 1ms}}",
        "pool: {timeouts: {idle: 9ms}}",
        "pool: {timeouts: {connect: 0.1ms}}",
        "pool: {health: {every: 1ms}}",
        "pool: {health: {every: 49ms}}",
        "pool: {health: {timeout: 1ms}}",
        "pool: {eject: {for: 1ms}}",
        "server: {head: {deadline: 1ms}}",
        "server: {head: {size: 1B}}",
        "server: {head: {fields: 1}}",
        "server: {body: {each: 1B, total: 1B}}",
        "server: {body: {timeout: 1ms}}",
        "server: {write: 1ms}",
        "server: {keep_alive: 1ms}",
        "pool: {timeouts: {total: 36501d}}",
        "middleware: [{retry: {first_byte: 1ms}}]",
        "middleware: [{auth: {keys: [], window: 0s}}]",
    ],
)
def test_next_to_nothing_is_refused_where_it_would_hurt(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(load_text(BACKEND + text))
    assert "expected" in str(caught.value.problems[0])


@pytest.mark.parametrize(
    "text",
    [
        "pool: {grace: 0s, eject: {ramp: 0s, at_most: 0%}, spread_after: 0}",
        "server: {shutdown: 0s}",
        "middleware: [{retry: {backoff: {base: 0s, max: 0s}, budget: 0%}}]",
        "middleware: [{queue: {depth: 0}}]",
        "middleware: [{parameters: {keep_alive: {set: 0s}}}]",
        "pool: {health: {every: 50ms}, timeouts: {total: 100ms, first_byte: 10ms}}",
    ],
)
def test_nothing_is_taken_where_it_means_something(text: str) -> None:
    check(load_text(BACKEND + text))
