"""proxy/relay/no_route.py, over real sockets to the simulator."""

import pytest

from proxy.kernel.errors import NotRouted
from proxy.simulator import Ollama
from tests.support.dispatching import ask, dispatching


@pytest.mark.parametrize(
    ("method", "path", "status", "headers"),
    [
        ("POST", "/api/nope", 404, {}),
        ("POST", "//api/chat", 404, {}),
        ("POST", "/api/./chat", 404, {}),
        ("POST", "/API/chat", 404, {}),
        ("POST", "/api/chat;x", 404, {}),
        ("POST", "/api\\chat", 404, {}),
        ("POST", "/api/chat\0", 404, {}),
        ("GET", "/v1/models/..", 404, {}),
        ("GET", "/v1/models/a/b", 404, {}),
        ("GET", "/api/chat", 405, {"allow": "POST"}),
        ("post", "/api/chat", 405, {"allow": "POST"}),
        ("POST", "/api/tags", 405, {"allow": "HEAD, GET"}),
        ("POST", "/api/chat/", 307, {"location": "../chat"}),
        ("GET", "/api/tags/", 301, {"location": "../tags"}),
    ],
)
async def test_what_is_no_route_never_reaches_a_backend(
    method: str, path: str, status: int, headers: dict[str, str]
) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        answer = await ask(app, method, path)
        assert isinstance(answer.error, NotRouted)
        assert answer.error.status == status
        assert answer.error.headers == headers
        assert sim.counters.requests == 0
