"""The table of events holds what the code logs, no more and no less."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from middleware.logging import fields
from proxy.telemetry.log_events import COMMON, EVENTS, FIELDS, Event

ROOT = Path(__file__).parents[3]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
BY_HAND = {"log_lines_dropped", "message"}
"""Events that are no call of a logger: the writer's own, and those of libraries."""


def logged() -> Iterator[tuple[str, frozenset[str], str]]:
    """Every event that the code logs, with its fields and where that is."""
    for path in sorted((ROOT / "proxy").rglob("*.py")) + sorted((ROOT / "middleware").rglob("*.py")):
        if "simulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and is_logger(node.func):
                fields = frozenset(keyword.arg or "**" for keyword in node.keywords) - {"logger", "exc_info"}
                for name in names(node.args[0]):
                    yield name, fields, f"{path.relative_to(ROOT)}:{node.lineno}"


def is_logger(called: ast.expr) -> bool:
    """``log.info``, ``_log.info``, ``self._log.info``; ``level`` where it was one of these."""
    if isinstance(called, ast.Name):
        return called.id == "level"
    if not isinstance(called, ast.Attribute) or called.attr not in LEVELS:
        return False
    owner = called.value
    return (owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else "") in (
        "log",
        "_log",
    )


def names(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif isinstance(argument, ast.IfExp):
        yield from names(argument.body)
        yield from names(argument.orelse)


CALLS = list(logged())


@pytest.mark.parametrize(("name", "fields", "where"), CALLS, ids=[where for _, _, where in CALLS])
def test_what_is_logged_is_in_the_table(name: str, fields: frozenset[str], where: str) -> None:
    known = {event.name: set(event.fields) for event in EVENTS}
    assert name in known, f"{where}: an event that is not in proxy/telemetry/log_events.py"
    assert fields == known[name], where


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_what_is_in_the_table_is_logged(event: Event) -> None:
    assert event.name in {name for name, _, _ in CALLS} | BY_HAND
    assert event.about.endswith(".")
    assert set(event.fields) <= set(FIELDS)


def test_no_event_twice_and_no_field_for_nothing() -> None:
    assert len({event.name for event in EVENTS}) == len(EVENTS)
    assert set(FIELDS) == {name for event in EVENTS for name in event.fields} | {"exception"}
    assert list(FIELDS) == sorted(FIELDS)


def test_a_name_has_one_type_in_all_lines() -> None:
    line = {field.name: field.kind for field in fields.FIELDS}
    for name, (kind, _) in {**COMMON, **FIELDS}.items():
        assert line.get(name, kind) == kind, name
