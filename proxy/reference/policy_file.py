"""The generated files of the project, and the schema and reference of the policy file among them.

`policy_schema` makes ``config/schema.json``; `configuration_page` and `plugins_page` make the pages of these names in
``docs/reference``. Both come from the models and signatures that check the policy file. ``scripts/generate`` writes all
files of `generated`, and a test fails while one of them is not current.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from config.json_schema import Schema, describe
from config.settings import Settings
from middleware import BUILTIN
from proxy.chain.plugin_lookup import Plugin, find
from proxy.kernel.selection_strategies import STRATEGIES
from proxy.reference.commands import commands_page
from proxy.reference.errors import errors_page
from proxy.reference.log import log_page, log_schema
from proxy.reference.metrics import metrics_page
from proxy.reference.ops import ops_api_page
from proxy.reference.routes import routes_page

_REFERENCE: Final = r"\$\{|^file:"
_NOTES: Final = ("description", "default", "title", "examples")


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a whole policy file, with the options of every plugin that ships."""
    schema = _referable(describe(Settings))
    parts: dict[str, Any] = schema["$defs"]
    parts["reference"] = {"type": "string", "pattern": _REFERENCE, "description": "`${ENV}` or `file:/path`."}
    changes: dict[str, Any] = {}
    for name in BUILTIN:
        plugin = find(name)
        options = _referable(describe(plugin.options, f"{name}."))
        parts |= options.pop("$defs", {})
        options = {**options, "title": name, "description": plugin.summary}
        parts[name] = options
        parts[f"{name}.use"] = _beside_use(name, options)
        changes[name] = {"anyOf": [{"const": "off"}, {key: options[key] for key in options if key != "required"}]}
    schema["properties"]["middleware"]["items"] = {
        "anyOf": [_by_name(), _with_options(), *({"$ref": f"#/$defs/{name}.use"} for name in BUILTIN), _foreign()]
    }
    schema["properties"]["policies"]["additionalProperties"] = {
        "type": "object",
        "properties": changes,
        "additionalProperties": {"anyOf": [{"const": "off"}, {"type": "object"}]},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "ollama-proxy"}


def _by_name() -> dict[str, Any]:
    return {"anyOf": [{"enum": sorted(BUILTIN)}, {"type": "string", "pattern": ":"}], "description": "A plugin."}


def _with_options() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A plugin and its options.",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {name: {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]} for name in BUILTIN},
        "patternProperties": {":": {"type": ["object", "null"]}},
        "additionalProperties": False,
    }


def _beside_use(name: str, options: Schema) -> dict[str, Any]:
    properties = {"use": {"const": name}, "name": {"type": "string"}, **options["properties"]}
    return {**options, "properties": properties, "required": ["use", *options.get("required", ())]}


def _foreign() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A plugin of another package, its options beside it.",
        "required": ["use"],
        "properties": {
            "use": {
                "type": "string",
                "not": {"enum": sorted(BUILTIN)},
                "description": "`package.module:Class`, or the name of an entry point.",
            },
            "name": {"type": "string", "description": "What policies, logs and errors call it."},
        },
    }


def _referable(schema: Any) -> Any:
    """Return `schema`, changed to allow a reference for every scalar that it does not allow to be any text."""
    if isinstance(schema, list):
        return [_referable(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("type") == "string" and "pattern" in schema:
        return {**schema, "pattern": f"{schema['pattern']}|{_REFERENCE}"}
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        notes = {key: schema[key] for key in _NOTES if key in schema}
        plain = {key: value for key, value in schema.items() if key not in notes}
        return {"anyOf": [plain, {"$ref": "#/$defs/reference"}], **notes}
    return {key: value if key in _NOTES else _referable(value) for key, value in schema.items()}


def configuration_page() -> str:
    """Return the reference of all settings, in Markdown."""
    schema = describe(Settings)
    lines = [
        "# The policy file",
        "",
        "Generated from `config/settings.py` and what it is made of by `scripts/generate`; not to be edited here.",
        "",
        "A duration is written `250ms`, `30s`, `10m`, `1h` or `7d`, a size `64KiB` or `10MB`, a share `20%`, a rate",
        "`60/minute`; a number without its unit is refused. `${NAME}` and `${NAME:-default}` in a value stand for the",
        "environment, `file:/path` for the content of a file, `$$` for one `$`. Relative paths start in the folder of",
        "the policy file.",
    ]
    for title, section in _sections(schema, schema, ""):
        lines += ["", f"## {title or 'Top level'}", "", section["description"], "", *_table(section, schema)]
        if title == "pool":
            lines += ["", "What each name in `prefer` stands for:", ""]
            lines += [f"- `{name}`: {text}" for name, text in STRATEGIES.items()]
    return "\n".join(lines) + "\n"


def plugins_page() -> str:
    """Return the reference of all plugins that ship, in Markdown."""
    lines = [
        "# Plugins",
        "",
        "Generated from the plugins' signatures by `scripts/generate`; not to be edited here.",
    ]
    for name in sorted(BUILTIN):
        lines += ["", f"## {name}", "", *_plugin(find(name))]
    return "\n".join(lines) + "\n"


def _plugin(plugin: Plugin) -> Iterator[str]:
    schema = describe(plugin.options)
    yield plugin.summary
    if schema["properties"]:
        yield ""
        yield from _table(schema, schema)
    for title, section in _sections(schema, schema, ""):
        if title:
            yield from ("", f"### {plugin.use}: {title}", "", *_table(section, schema))


def _sections(section: Schema, root: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield `section` and every section below it, each with its path."""
    yield path, section
    for name, part in section["properties"].items():
        below, suffix = _inner(part, root)
        if below is not None:
            yield from _sections(below, root, f"{path}.{name}{suffix}".lstrip("."))


def _inner(part: Schema, root: Schema) -> tuple[Schema | None, str]:
    for choice in part.get("anyOf", [part]):
        if "$ref" in choice:
            section: Schema = root["$defs"][choice["$ref"].removeprefix("#/$defs/")]
            return (section, "") if "properties" in section else (None, "")
        if isinstance(choice.get("items"), Mapping) and "$ref" in choice["items"]:
            return _inner(choice["items"], root)[0], "[]"
    return None, ""


def _table(section: Schema, root: Schema) -> Iterator[str]:
    yield "| option | what it is | default | |"
    yield "|---|---|---|---|"
    for name, part in section["properties"].items():
        required = name in section.get("required", ())
        default = "required" if required else _default(part.get("default"))
        text = (part.get("description") or _about(part, root)).replace("|", "\\|").replace("``", "`")
        text = " ".join(text.split())  # a line feed would end the row
        yield f"| `{name}` | {_kind(part, root)} | {default} | {text} |"


def _about(part: Schema, root: Schema) -> str:
    section, _ = _inner(part, root)
    return str(section.get("description", "")) if section else ""


def _default(value: object) -> str:
    if value is None or value in ([], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _kind(part: Schema, root: Schema) -> str:
    """Return in a few words which values `part` allows."""
    if "$ref" in part:
        section = root["$defs"][part["$ref"].removeprefix("#/$defs/")]
        return "section" if "properties" in section else _kind(section, root)
    if str(part.get("title", "")).startswith("a"):
        return str(part["title"]).partition(" ")[2]
    if "anyOf" in part:
        kinds = dict.fromkeys(_kind(choice, root) for choice in part["anyOf"] if choice.get("type") != "null")
        return " or ".join(kinds)
    if "enum" in part or "const" in part:
        return ", ".join(f"`{choice}`" for choice in part.get("enum", [part.get("const")]))
    if part.get("type") == "array":
        return f"list of {_plural(_kind(part['items'], root))}" if part.get("items") else "list"
    if part.get("type") == "object":
        rest = part.get("additionalProperties")
        return f"mapping to {_kind(rest, root)}" if isinstance(rest, Mapping) else "mapping"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}.get(
        part.get("type", ""), "anything"
    )


def _plural(kind: str) -> str:
    if kind.endswith(("`", "text")):
        return kind
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def generated(root: Path) -> dict[Path, str]:
    """Return the path and the content of every generated file in the project folder `root`."""
    return {
        root / "config/schema.json": _json(policy_schema()),
        root / "docs/reference/commands.md": commands_page(),
        root / "docs/reference/configuration.md": configuration_page(),
        root / "docs/reference/errors.md": errors_page(),
        root / "docs/reference/log.md": log_page(),
        root / "docs/reference/log.schema.json": _json(log_schema()),
        root / "docs/reference/metrics.md": metrics_page(),
        root / "docs/reference/ops-api.md": ops_api_page(),
        root / "docs/reference/plugins.md": plugins_page(),
        root / "docs/reference/routes.md": routes_page(),
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
