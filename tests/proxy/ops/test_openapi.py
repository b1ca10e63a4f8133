"""proxy/ops/openapi.py."""

import re
from typing import Any

import jsonschema
import orjson
import pytest
from openapi_spec_validator import validate

from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.kernel.routes import RouteTable
from proxy.ops.openapi import openapi
from proxy.ops.routes import OPERATIONS, ROUTES
from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.wire import ask

EXTRA = Route("/v1/images/{name}", ("POST",), "inference", "openai", body="json", models=("model",))
LOCAL = {"Host": "localhost"}


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(orjson.dumps(openapi(RouteTable((*ROUTES, EXTRA)))))
    return found


def test_it_is_openapi_3_1(api: dict[str, Any]) -> None:
    assert api["openapi"] == "3.1.0"
    validate(api)


def test_every_route_is_in_it_and_nothing_else(api: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, methods in api["paths"].items() for method in methods}
    assert described == {(method, route.path) for route in (*ROUTES, EXTRA, *OLLAMA) for method in route.methods}


def test_what_is_open_says_so(api: dict[str, Any]) -> None:
    for route in (*ROUTES, *OLLAMA):
        for method in route.methods:
            operation = api["paths"][route.path][method.lower()]
            assert (operation.get("security") == []) is route.open
            assert ("401" in operation["responses"]) is not route.open


def test_every_reference_leads_somewhere(api: dict[str, Any]) -> None:
    text = orjson.dumps(api).decode()
    names = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert names <= set(api["components"]["schemas"])
    assert {operation.answer for operation in OPERATIONS} - {None, "object"} <= set(api["components"]["schemas"])


async def test_the_answers_are_what_it_says(api: dict[str, Any]) -> None:
    """Every JSON answer of a running proxy against its schema."""
    async with Ollama() as sim, running({"name": "b1", "url": sim.url, "slots": 2}, watched=True) as proxy:
        await sim.wait_for(lambda: sim.seen("/api/ps"))
        await ask(proxy.address, "POST", "/api/chat", {"model": "llama3.2", "messages": []})
        await ask(proxy.address, "POST", "/api/chat", {"model": "nonesuch", "messages": []})
        asked = {
            "healthz": ("GET", "/-/healthz", None),
            "readyz": ("GET", "/-/readyz", None),
            "status": ("GET", "/-/status", None),
            "config": ("GET", "/-/config", None),
            "explain": ("POST", "/-/explain", {"method": "POST", "path": "/api/chat", "model": "llama3.2"}),
            "drain": ("POST", "/-/drain/b1", None),
            "undrain": ("POST", "/-/undrain/b1", None),
            "unload": ("POST", "/-/unload/b1?model=llama3.2", None),
        }
        for name, (method, path, body) in asked.items():
            operation = next(operation for operation in OPERATIONS if operation.name == name)
            reply = await ask(proxy.address, method, path, body, LOCAL)
            assert reply.status == 200, reply.body
            schema = {"$ref": f"#/components/schemas/{operation.answer}", "components": api["components"]}
            jsonschema.validate(orjson.loads(reply.body), schema)
