"""The OpenAPI 3.1 document of the ops routes and of the routes that are passed on to Ollama, made from their tables."""

from dataclasses import is_dataclass
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from proxy import __version__
from proxy.kernel.routes import RouteTable
from proxy.ops import document_types, effective_config
from proxy.ops.openapi_ollama import errors, passed_on
from proxy.ops.routes import OPERATIONS, Operation

_MEDIA: Final = {"json": "application/json", "text": "text/plain", "events": "text/event-stream", "page": "text/html"}
_SUPPOSED: Final = {
    "type": "object",
    "required": ["method", "path"],
    "additionalProperties": False,
    "properties": {
        "method": {"type": "string"},
        "path": {"type": "string", "description": "With its query."},
        "as": {"type": "string", "description": "An API key, a JWT, or the name or id of a key."},
        "claims": {"type": "object", "description": "The claims of a token, in place of one."},
        "model": {"type": "string", "description": "Put into the body."},
        "body": {"description": "The JSON body."},
        "address": {"type": "string", "description": "Where it comes from."},
    },
}


def openapi(routes: RouteTable) -> dict[str, Any]:
    """Return the OpenAPI document; `routes` is the table of the main listener, with the routes of the policy file."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        for method in operation.route.methods:
            paths.setdefault(operation.route.path, {})[method.lower()] = _ops(operation, method)
    for route in routes.routes:
        if route.kind != "ops":
            for method in route.methods:
                paths.setdefault(route.path, {}).setdefault(method.lower(), passed_on(route, method))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ollama-proxy",
            "version": __version__,
            "description": "The proxy's own routes under /-/, and those of Ollama that it passes on. Which of them a "
            "caller may use, his policy says.",
        },
        "tags": [
            {"name": "ops", "description": "The proxy itself."},
            {"name": "inference", "description": "Passed on: work for a model."},
            {"name": "read", "description": "Passed on: lists and versions, of all backends where there are several."},
            {"name": "manage", "description": "Passed on: changes the models of one backend, which must be named."},
            {"name": "account", "description": "Passed on: acts as the account a host is signed in with."},
        ],
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a JWT."}},
        },
    }


def _ops(operation: Operation, method: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"type": "string"}
    if operation.answer == "object":
        answer = {"type": "object"}
    elif operation.answer is not None and operation.answers == "json":
        answer = {"$ref": f"#/components/schemas/{operation.answer}"}
    ok: dict[str, Any] = {"description": operation.summary}
    if method != "HEAD":
        ok["content"] = {_MEDIA[operation.answers]: {"schema": answer}}
    found: dict[str, Any] = {
        "operationId": operation.name if method != "HEAD" else f"{operation.name}_head",
        "tags": ["ops"],
        "summary": operation.summary,
        "responses": {"200": ok, **_also(operation), **errors("ollama", open=operation.route.open)},
    }
    if operation.about:
        found["description"] = operation.about
    if operation.parameters:
        found["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.required,
                "description": parameter.about,
                "schema": {"type": "string"},
            }
            for parameter in operation.parameters
        ]
    if operation.route.body == "json":
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _SUPPOSED}}}
    if operation.route.open:
        found["security"] = []
    return found


def _also(operation: Operation) -> dict[str, Any]:
    return {
        str(also.status): {
            "description": also.about,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{also.answer}"}}},
        }
        for also in operation.also
    }


def _schemas() -> dict[str, Any]:
    """Return the JSON schemas of all documents; a schema has the name of its class."""
    classes = [
        found
        for module in (document_types, effective_config)
        for found in vars(module).values()
        if is_dataclass(found) and isinstance(found, type) and found.__module__ == module.__name__
    ]
    inputs: list[tuple[str, Literal["serialization"], TypeAdapter[Any]]] = [
        (found.__name__, "serialization", TypeAdapter(found)) for found in classes
    ]
    _, schema = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    text = {"type": "string"}
    named = {"type": "string", "description": "The error's code, as in the header X-Error-Code."}
    said = {"type": text, "message": text, "code": named}
    code_or_null = {**named, "type": ["string", "null"]}
    detail = {"type": "object", "properties": {**said, "param": {"type": "null"}, "code": code_or_null}}
    twice = {"type": "string", "description": "Of a 401: the text once more, where Ollama's client in Go reads it."}
    return {
        **schema["$defs"],
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": text, "status": twice, "code": named},
        },
        "OpenAIError": {"type": "object", "required": ["error"], "properties": {"error": detail}},
        "AnthropicError": {
            "type": "object",
            "required": ["type", "error"],
            "properties": {
                "type": {"const": "error"},
                "error": {"type": "object", "properties": said},
                "request_id": {"type": "string", "description": "As in the header X-Request-ID."},
            },
        },
    }
