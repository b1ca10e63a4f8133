"""The effective policy file, for showing and comparing: every setting and option, defaults included.

It holds no secret. Values of a secret type are masked, and a value from the environment or from another file is shown
as the policy file writes it.
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
    """The name of the plugin."""
    options: dict[str, Any]
    policies: dict[str, dict[str, Any] | None]
    """Each policy with the options under it; null where the policy turns the entry off."""


@dataclass(slots=True)
class Digest:
    """The effective policy file."""

    __pydantic_config__: ClassVar = ConfigDict(use_attribute_docstrings=True)
    settings: dict[str, Any]
    """All settings apart from the chain and the policies."""
    middleware: list[Entry]
    """The chain, outermost first."""
    policies: list[str]


def digest(plan: Plan, settings: Settings) -> Digest:
    """Return the effective form of a checked policy file."""
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
    """Return the options at `base`, with the options of a policy (`override`) in their place."""
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
    """Return `data`, the JSON form of `value`, with sets sorted, so that their order is the same each time."""
    if isinstance(value, set | frozenset):
        return sorted(data, key=str)
    if isinstance(value, list | tuple):
        # The JSON form of an empty default is not always a list.
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
    """Set the value at `path`. Where `data` has another shape than the file, set the innermost value on the way."""
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
    """Return a nested mapping as a flat one with dotted names; lists are values."""
    found: dict[str, Any] = {}
    for key, value in digest.items():
        if isinstance(value, dict) and value:
            found |= {f"{key}.{below}": inner for below, inner in flat(value).items()}
        else:
            found[key] = value
    return found
