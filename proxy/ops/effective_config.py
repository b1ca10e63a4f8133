"""The policy file as it was understood, to be shown and compared: every setting and option, defaults included.

Nothing secret is in it: what is a secret by its type is masked, and what came from the environment or from another file
stands there as it is written in the policy file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from config.problems import Path
from config.settings import Settings
from config.tree import Data, Node
from proxy.chain.plan import Link, Plan

_APART = {"middleware", "policies"}


@dataclass(slots=True)
class Entry:
    """One entry of the middleware list."""

    __pydantic_config__: ClassVar = ConfigDict(use_attribute_docstrings=True)
    name: str
    use: str
    """The plugin."""
    options: dict[str, Any]
    policies: dict[str, dict[str, Any] | None]
    """Policy to the options under it; null where the policy turns the entry off."""


@dataclass(slots=True)
class Digest:
    """A policy file."""

    __pydantic_config__: ClassVar = ConfigDict(use_attribute_docstrings=True)
    settings: dict[str, Any]
    """All but the chain."""
    middleware: list[Entry]
    """The chain, outermost first."""
    policies: list[str]


def digest(plan: Plan, settings: Settings) -> Digest:
    """Return what a checked policy file comes to."""
    root = plan.loaded.root
    data = _dumped(settings, exclude=_APART)
    for path, text in _resolved(root):
        if path and path[0] not in _APART:
            _put(data, path, text)
    return Digest(data, [_entry(link, root) for link in plan.links], sorted(plan.policies))


def _entry(link: Link, root: Node) -> Entry:
    base = root.at(link.path)
    policies: dict[str, dict[str, Any] | None] = {}
    for policy, options in link.overrides.items():
        override = root.at(("policies", policy, link.name))
        policies[policy] = None if options is None else _options(options, base, override)
    return Entry(link.name, link.plugin.use, _options(link.options, base), policies)


def _options(options: BaseModel, base: Node, override: Node | None = None) -> dict[str, Any]:
    """Return options that stand at `base`, with those in their place that a policy has."""
    data = _dumped(options)
    changed = override.value if override is not None and isinstance(override.value, dict) else {}
    for path, text in _resolved(base):
        if path and path[0] not in changed:
            _put(data, path, text)
    for path, text in _resolved(override) if override is not None else ():
        _put(data, path, text)
    return data


def _dumped(model: BaseModel, exclude: set[str] | None = None) -> dict[str, Any]:
    data = model.model_dump(mode="json", by_alias=True, exclude=exclude, fallback=repr)
    return {key: _ordered(value, data[key]) for key, value in _named(model) if key in data}


def _ordered(value: object, data: Any) -> Any:
    """Return `data`, which `value` was written as, with sets in an order that is the same each time."""
    if isinstance(value, set | frozenset):
        return sorted(data, key=str)
    if isinstance(value, list | tuple):
        # An empty default is not always taken for the list that it is.
        return [_ordered(*pair) for pair in zip(value, data, strict=True)] if value else []
    if isinstance(value, BaseModel):
        return {key: _ordered(inner, data[key]) for key, inner in _named(value)}
    if isinstance(value, Mapping):
        return {name: _ordered(inner, data[name]) for name, inner in zip(data, value.values(), strict=True)}
    return data


def _named(model: BaseModel) -> list[tuple[str, object]]:
    fields = type(model).model_fields
    return [(fields[name].alias or name if name in fields else name, value) for name, value in model]


def _resolved(node: Node) -> list[tuple[Path, Data]]:
    return [(path, below.shown()) for path, below in node.walk() if below.resolved]


def _put(data: Any, path: Path, value: Data) -> None:
    """Set the value at `path`, or where the data has another shape than the file, the innermost value on the way."""
    part = path[0]
    inner = _step(data, part)
    if len(path) > 1 and isinstance(inner, dict | list):
        _put(inner, path[1:], value)
    elif isinstance(data, dict) or (isinstance(part, int) and part < len(data)):
        data[part] = value


def _step(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(part, int) and part < len(data) else None


def flat(digest: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings and options of nested mappings by dotted name; lists are values."""
    found: dict[str, Any] = {}
    for key, value in digest.items():
        if isinstance(value, dict) and value:
            found |= {f"{key}.{below}": inner for below, inner in flat(value).items()}
        else:
            found[key] = value
    return found
