"""JSON Schema of settings and options: editors complete by it, and `config.model_validation` looks up names in it."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import core_schema

from config.addresses import Address
from config.problems import Path
from config.tree import Node

Schema = Mapping[str, Any]

_KINDS: Final = ("boolean", "integer", "number", "string", "", "array", "object", "const", "null")
"""The order in which alternatives are described: types of JSON Schema, "" for a section that has its own description,
and "const" for a word that stands in place of a value, such as ``off``."""

_WRAPPERS: Final = ("nullable", "function-after", "function-before", "function-wrap")


class Generator(GenerateJsonSchema):
    """Writes defaults as the file does (``30s``, not 30.0). A type without a JSON Schema accepts anything."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Describe a field that has a default; for a section, its own fields show their defaults."""
        show = _shown_by(schema["schema"])
        default = schema.get("default")
        if isinstance(default, BaseModel):
            return self.generate_inner(schema["schema"])
        if show is not None and default is not None:
            schema = {**schema, "default": show(default)}
        return super().default_schema(schema)

    def get_union_of_schemas(self, schemas: list[JsonSchemaValue]) -> JsonSchemaValue:
        """Describe alternatives in one order, whatever order the type has.

        `typing` keeps generic types in a cache that compares their arguments, and unions are equal in every order:
        ``Optional[str | bool]`` of some other package, made first, is what ``Optional[bool | str]`` gives.
        """
        return super().get_union_of_schemas(sorted(schemas, key=_place))

    def encode_default(self, dft: Any) -> Any:
        """Return a default as JSON. A default in the code is public, so a secret is written out."""
        if isinstance(dft, tuple):
            return [self.encode_default(item) for item in dft]
        if isinstance(dft, SecretStr):
            return dft.get_secret_value()
        return str(dft) if isinstance(dft, Address) else super().encode_default(dft)

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        """Return an empty schema for a type that has no JSON Schema."""
        return {}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: a title would only repeat the field's name."""
        return False


def _place(alternative: JsonSchemaValue) -> tuple[int, int, str]:
    """Return the key that alternatives are sorted by: by type, within it the longer list of values first."""
    if "const" in alternative:
        kind = "const"
    else:
        kinds = [part.get("type") for part in (alternative, *alternative.get("anyOf", ()))]
        kind = next((kind for kind in kinds if kind is not None), "")
    rank = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
    return rank, -len(alternative.get("enum", ())), json.dumps(alternative, sort_keys=True)


def _shown_by(schema: Any) -> Callable[[Any], str] | None:
    serialization = schema.get("serialization")
    if serialization is not None and serialization["type"] == "function-plain":
        show: Callable[[Any], str] = serialization["function"]
        return show
    return _shown_by(schema["schema"]) if schema["type"] in _WRAPPERS else None


def describe(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what may be written for `model`.

    `prefix` goes before the names under ``$defs``, so that several schemas fit into one.
    """
    schema = model.model_json_schema(schema_generator=Generator, ref_template=f"#/$defs/{prefix}{{model}}")
    if "$defs" in schema:
        schema["$defs"] = {prefix + name: part for name, part in schema["$defs"].items()}
    return schema


def at(schema: Schema, path: Path) -> list[Schema]:
    """Return every part of `schema` that describes the value at `path`; alternatives give several."""
    parts = list(_alternatives(schema, schema))
    for step in path:
        parts = [found for part in parts for below in _below(part, step) for found in _alternatives(below, schema)]
    return parts


def names(schema: Schema, path: Path) -> set[str]:
    """Return the keys that the mapping at `path` may have."""
    return {name for part in at(schema, path) for name in part.get("properties", ())}


def secret(schema: Schema, path: Path) -> bool:
    """Return whether a secret may stand at `path` or anywhere below it."""
    return any(_holds_secret(part, schema, 0) for part in at(schema, path))


def unread(schema: Schema, node: Node, path: Path = ()) -> Iterator[Path]:
    """Yield the keys of `node` that nothing reads. A plugin's own model may silently ignore unknown keys."""
    if isinstance(node.value, list):
        for index, item in enumerate(node.value):
            yield from unread(schema, item, (*path, index))
    elif isinstance(node.value, dict):
        parts = [part for part in at(schema, path) if "properties" in part or "additionalProperties" in part]
        for key, item in node.value.items():
            if parts and not any(key in part.get("properties", ()) or "additionalProperties" in part for part in parts):
                yield (*path, key)
            yield from unread(schema, item, (*path, key))


def _alternatives(part: Schema, root: Schema) -> Iterator[Schema]:
    if "$ref" in part:
        yield from _alternatives(root["$defs"][part["$ref"].removeprefix("#/$defs/")], root)
    for word in ("anyOf", "oneOf", "allOf"):
        for choice in part.get(word, ()):
            yield from _alternatives(choice, root)
    yield part


def _below(part: Schema, step: str | int) -> Iterator[Schema]:
    if isinstance(step, int):
        if isinstance(items := part.get("items"), Mapping):
            yield items
        yield from part.get("prefixItems", ())[step : step + 1]
    elif step in part.get("properties", ()):
        yield part["properties"][step]
    elif isinstance(rest := part.get("additionalProperties"), Mapping):
        yield rest


def _holds_secret(part: Schema, root: Schema, depth: int) -> bool:
    if part.get("writeOnly"):
        return True
    inner = [*part.get("properties", {}).values(), part.get("additionalProperties"), part.get("items")]
    return depth < 8 and any(
        _holds_secret(found, root, depth + 1)
        for below in inner
        if isinstance(below, Mapping)
        for found in _alternatives(below, root)
    )
