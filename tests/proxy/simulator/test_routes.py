import pytest

from proxy.simulator import Ollama
from proxy.simulator.routes import TABLE, match
from tests.proxy.simulator.client import Wire, ask


def test_every_route_matches_itself() -> None:
    for methods, pattern, handler in TABLE:
        for method in methods.split():
            route = match(method, pattern.replace("{", "<").replace("}", ">"))
            assert route is not None
            assert (route.pattern, route.handler) == (pattern, handler)


def test_parameters() -> None:
    route = match("GET", "/v1/models/llama3:latest")
    assert route is not None
    assert route.parameters == {"model": "llama3:latest"}
    assert match("GET", "/v1/models/a/b") is None


@pytest.mark.parametrize(
    ("method", "target", "status", "body", "allow"),
    [
        ("GET", "/nowhere", 404, b"404 page not found", None),
        ("POST", "/API/chat", 404, b"404 page not found", None),
        ("POST", "/api/chat;x", 404, b"404 page not found", None),
        ("POST", "/api/tags/", 404, b"404 page not found", None),
        ("GET", "/api/chat", 405, b"405 method not allowed", "POST"),
        ("POST", "/api/tags", 405, b"405 method not allowed", "HEAD, GET"),
        ("DELETE", "/api/blobs/x", 405, b"405 method not allowed", "HEAD, POST"),
        ("HEAD", "/api/ps", 405, b"", "GET"),
        ("PATCH", "/", 405, b"405 method not allowed", "HEAD, GET"),
        ("OPTIONS", "/api/chat", 405, b"405 method not allowed", "POST"),
    ],
)
async def test_what_is_not_in_the_table(method: str, target: str, status: int, body: bytes, allow: str | None) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, method, target)
        assert (answer.status, answer.body, answer.headers.get("allow")) == (status, body, allow)
        assert answer.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("method", "target", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("GET", "/api/tags/?a=1", 301, "/api/tags?a=1"),
        ("POST", "/api/pull/", 307, "/api/pull"),
        ("HEAD", "/api/tags/", 307, "/api/tags"),
        ("DELETE", "/api/delete/", 307, "/api/delete"),
        ("POST", "//api/pull", 307, "/api/pull"),
        ("POST", "/api/./pull", 307, "/api/pull"),
        ("POST", "/api/x/../pull", 307, "/api/pull"),
        ("GET", "/../../api/tags", 307, "/api/tags"),
        ("GET", "/api//tags/", 307, "/api/tags/"),
    ],
)
async def test_redirects(method: str, target: str, status: int, location: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, method, target)
        assert (answer.status, answer.headers["location"]) == (status, location)


@pytest.mark.parametrize("target", ["/api/%74ags", "/api%2ftags", "/%61pi/tags?x", "http://h.local/api/tags"])
async def test_paths_are_decoded_before_they_are_routed(target: str) -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "GET", target)).status == 200
        assert sim.last.route == "/api/tags"


@pytest.mark.parametrize("target", ["/api%2f..%2fapi/tags", "/api/tags%00", "/api/tags%2f..", "\\api\\tags", "*"])
async def test_decoding_does_not_clean(target: str) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        answer = await wire.ask("OPTIONS" if target == "*" else "GET", target)
        assert answer.status in (400, 404)


async def test_the_content_type_of_a_request_does_not_matter() -> None:
    async with Ollama() as sim:
        for kind in ("Content-Type: application/x-www-form-urlencoded", "Content-Type: nonsense", "X-None: 1"):
            assert (await ask(sim, "POST", "/api/show", {"model": "llama3.2"}, kind)).status == 200


async def test_bodies_that_nobody_wants_do_not_spoil_the_connection() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        assert (await wire.ask("POST", "/nowhere", b"x" * 100_000)).status == 404
        assert (await wire.ask("GET", "/", b"body of a GET")).status == 200
        await wire.send(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = await wire.read()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert await wire.rest() == b""
