"""The reference of the ops routes, in Markdown, made from the OpenAPI document that the proxy serves."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.kernel.routes import RouteTable
from proxy.ops.openapi import openapi
from proxy.ops.routes import OPERATIONS, ROUTES, Operation

_ERRORS: Final = ("Error", "OpenAIError", "AnthropicError")

Schema = Mapping[str, Any]


def ops_api_page() -> str:
    """Return the page, in Markdown."""
    api = openapi(RouteTable(ROUTES))
    lines = [
        "# The ops API",
        "",
        "Generated from `proxy/ops/routes.py` and `document_types.py` there by `scripts/generate`; not to be edited.",
        "A running proxy serves the same as OpenAPI 3.1 at `/-/openapi.json`, to read at `/-/docs`.",
        "",
        "Times are seconds unless they are times of day, which are RFC 3339 in UTC. An error is",
        '`{"error": text, "code": code}`; [these are the codes](errors.md).',
        "",
        "| | | who |",
        "|---|---|---|",
        *(_row(operation) for operation in OPERATIONS),
    ]
    for operation in OPERATIONS:
        lines += ["", f"## {_title(operation)}", "", *_operation(operation)]
    lines += ["", "# Documents"]
    for name, schema in api["components"]["schemas"].items():
        if name not in _ERRORS:
            lines += ["", f"## {name}", "", schema["description"], "", *_table(schema)]
    return "\n".join(lines) + "\n"


def _title(operation: Operation) -> str:
    return f"{operation.route.methods[0]} {operation.route.path}"


def _row(operation: Operation) -> str:
    who = "everybody" if operation.route.open else "class `ops`"
    return f"| `{_title(operation)}` | {operation.summary} | {who} |"


def _operation(operation: Operation) -> Iterator[str]:
    yield f"{operation.summary}. {operation.about}".rstrip()
    for parameter in operation.parameters:
        yield ""
        yield f"- `{parameter.name}` in the {parameter.place}: {parameter.about}"
    if operation.answer not in (None, "object"):
        yield ""
        yield f"Answers [{operation.answer}](#{str(operation.answer).lower()})."
    for also in operation.also:
        yield ""
        yield f"- {also.status}: {also.about}"


def _table(schema: Schema) -> Iterator[str]:
    yield "| member | type | |"
    yield "|---|---|---|"
    for name, part in schema.get("properties", {}).items():
        text = str(part.get("description", "")).replace("|", "\\|").replace("``", "`").replace("\n", " ")
        yield f"| `{name}` | {_kind(part)} | {text} |"


def _kind(part: Schema) -> str:
    """Return the type of a member in a few words."""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in part:
        return " or ".join(map(_kind, part["anyOf"]))
    if "enum" in part or "const" in part:
        return ", ".join(f"`{choice}`" for choice in part.get("enum", [part.get("const")]))
    if part.get("type") == "array":
        return f"list of {_kind(part.get('items', {}))}"
    return str(part.get("type", "anything"))
