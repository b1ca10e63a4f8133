"""Check a part of the tree against a pydantic model, and report each mistake in the terms of the policy file.

Values are validated as JSON in pydantic's strict mode. JSON mode turns lists into tuples and text into paths. Strict
mode accepts neither ``yes`` for true nor ``"4"`` for 4. A value from the environment or from a file is always text, so
only such a value may stand for a number or a boolean.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config import json_schema
from config.problems import Mistakes, Path, Problem
from config.tree import Data, Node, scalar
from proxy.kernel.units import Context, Mistake, suggest

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED: Final = {
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "set_type": "expected a list",
    "frozen_set_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "dataclass_type": "expected a mapping",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
    "string_pattern_mismatch": "expected text that matches {pattern}",
    "string_too_short": "expected text of at least {min_length} characters",
    "string_too_long": "expected text of at most {max_length} characters",
    "too_short": "expected at least {min_length}",
    "too_long": "expected at most {max_length}",
}
_RANKS: Final = {kind: place for place, kind in enumerate(_EXPECTED)}
_UNKNOWN: Final = ("extra_forbidden", "unexpected_keyword_argument")
_WORDS: Final = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_INSTEAD: Final = {"origin_regex": "use origins with *", "allow_origin_regex": "use origins with *"}
"""Key of another program → what to write here instead."""
_MAX_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks parts of one file.

    Attributes:
        file: the file's name, as problems show it.
        context: what values are checked against.
    """

    file: str
    context: Context

    def check(
        self, model: type[Model], node: Node, where: Callable[[Path], Path] = lambda path: path
    ) -> tuple[Model | None, list[Problem]]:
        """Return the mapping `node` as a `model`, or None, and the list of its problems.

        `where` turns a path below `node` into the path from the top of the file.
        """
        data = node.data()
        value, errors = self._validate(model, data)
        if errors and _retype(data, node, errors):
            value, errors = self._validate(model, data)
        schema = _schema(model)
        flaws = list(_merged(flaw for error in errors for flaw in _flaws(error, node, schema)))
        seen = {flaw.path for flaw in flaws}
        ignored = [path for path in json_schema.unread(schema, node) if path not in seen]
        flaws += [_unknown(node.at(path[:-1]), path, schema) for path in ignored]
        return None if flaws else value, [
            Problem(self.file, flaw.line, flaw.column, where(flaw.path), flaw.message, flaw.hint) for flaw in flaws
        ]

    def _validate(self, model: type[Model], data: Data) -> tuple[Model | None, list[ErrorDetails]]:
        try:
            return model.model_validate_json(json.dumps(data), strict=True, context=self.context), []
        except ValidationError as error:
            return None, error.errors(include_url=False)


@lru_cache(maxsize=128)
def _schema(model: type[BaseModel]) -> json_schema.Schema:
    """Return the JSON Schema of a model, built once: building takes longer than checking, and streams run meanwhile."""
    return json_schema.describe(model)


@dataclass(frozen=True, slots=True)
class _Flaw:
    """A problem without its file.

    Attributes:
        got: the value that was found, for messages that say what was expected.
        rank: the place of the message among those of the other branches of a union.
    """

    path: Path
    line: int
    column: int
    message: str
    got: str = ""
    hint: str | None = None
    rank: int = 0


def _follow(node: Node, loc: Path) -> tuple[Path, Node]:
    """Return the path and node for pydantic's `loc`. `loc` also names branches of unions; these are skipped."""
    path: list[str | int] = []
    for part in loc:
        child = node.step(part)
        if child is not None:
            path.append(part)
            node = child
    return tuple(path), node


def _retype(data: Data, node: Node, errors: list[ErrorDetails]) -> bool:
    """Read refused text from outside the file as the scalar it spells, in place; return whether `data` was changed."""
    changed = False
    for error in errors:
        path, target = _follow(node, error["loc"])
        if not (path and target.resolved and isinstance(target.value, str)):
            continue
        typed = scalar(target.value)
        if not isinstance(typed, str):
            parent: Any = data
            for part in path[:-1]:
                parent = parent[part]
            parent[path[-1]] = typed
            changed = True
    return changed


def _flaws(error: ErrorDetails, node: Node, schema: json_schema.Schema) -> Iterator[_Flaw]:
    loc, kind = error["loc"], error["type"]
    path, target = _follow(node, loc)
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, Mistakes):
        for below, mistake in cause.found:
            place = target.at(below)
            yield _Flaw((*path, *below), place.line, place.column, mistake.message, _got(place), mistake.hint)
    elif kind == "missing":
        yield _Flaw((*path, loc[-1]), target.line, target.column, "is required")
    elif kind in _UNKNOWN:
        yield _unknown(node.at(path[:-1]), path, schema)
    elif not (target.reported or _counted_wrong(error, target)):
        public = isinstance(target.value, list | dict) or not json_schema.secret(schema, path)
        message, hint = _explain(error, target)
        yield _Flaw(path, target.line, target.column, message, _got(target) if public else "", hint, _rank(error))


def _rank(error: ErrorDetails) -> int:
    """Return the place of a message about a type in `_EXPECTED`; the units of the policy file are written as text."""
    return _RANKS.get(error["type"], _RANKS["string_type"])


def _counted_wrong(error: ErrorDetails, target: Node) -> bool:
    """Return whether pydantic calls a list too short only because it did not count the items that it refused.

    A single value in place of a list counts as one item.
    """
    if error["type"] != "too_short":
        return False
    items = len(target.value) if isinstance(target.value, list | dict) else 1
    return bool(items >= error["ctx"]["min_length"])


def _unknown(parent: Node, path: Path, schema: json_schema.Schema) -> _Flaw:
    name = str(path[-1])
    known = json_schema.names(schema, path[:-1])
    hint = (
        _INSTEAD.get(name)
        or suggest(name, known)
        or (f"known here: {', '.join(sorted(known))}" if 0 < len(known) < 13 else None)
    )
    return _Flaw(path, *parent.keys.get(name, (parent.line, parent.column)), f"unknown key {name!r}", hint=hint)


def _explain(error: ErrorDetails, target: Node) -> tuple[str, str | None]:
    """Return the message and the hint. Neither repeats a value from outside the file."""
    context = error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Mistake):
        message, hint = cause.message, cause.hint
    elif error["type"] in _EXPECTED:
        limits = {name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in context.items()}
        message, hint = _EXPECTED[error["type"]].format(**limits), _hint(error, target.value)
    else:
        message, hint = mask(str(cause) if cause else error["msg"], target), None
    return message, None if target.resolved else hint


def _hint(error: ErrorDetails, value: object) -> str | None:
    kind = error["type"]
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return "write off" if value is False and "off" in known else suggest(str(value), known)
    if kind == "string_type" and isinstance(value, int | float):
        return "put it in quotes"
    if kind in ("bool_type", "int_type", "float_type") and isinstance(value, str):
        if kind == "bool_type" and value.lower() in _WORDS:
            return f"write {_WORDS[value.lower()]}"
        return None if isinstance(scalar(value), str) else "leave out the quotes"
    return None


def mask(message: str, node: Node) -> str:
    """Replace every outside value at or below `node` in `message` with the text written in the policy file."""
    for _, inner in node.walk():
        if inner.resolved and inner.value not in (None, ""):
            message = message.replace(str(inner.value), inner.text or "")
    return message


def _got(target: Node) -> str:
    if isinstance(target.value, dict):
        return "a mapping"
    if isinstance(target.value, list):
        return "a list"
    if target.value is None:
        return "nothing"
    text = target.text or ""
    text = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return repr(text) if isinstance(target.value, str) else text


def _merged(flaws: Iterable[_Flaw]) -> Iterator[_Flaw]:
    """Join what the branches of a union expected at one place, and add the value that was found.

    The order is the one of `_EXPECTED`, as pydantic's depends on which equal union was made first in the process.
    """
    places: dict[tuple[Path, int, int], list[_Flaw]] = {}
    for flaw in flaws:
        places.setdefault((flaw.path, flaw.line, flaw.column), []).append(flaw)
    for group in places.values():
        group.sort(key=lambda flaw: (flaw.rank, flaw.message))
        messages = list(dict.fromkeys(flaw.message for flaw in group))
        first = group[0]
        message = ", or ".join([messages[0], *(other.removeprefix("expected ") for other in messages[1:])])
        got = f", got {first.got}" if first.got and message.startswith("expected") else ""
        hint = next((flaw.hint for flaw in group if flaw.hint), None)
        yield replace(first, message=message + got, hint=hint)
