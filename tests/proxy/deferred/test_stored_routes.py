"""The table of routes of a caller's own entries, and what answers them."""

import pytest

from proxy.deferred.stored_routes import ANSWER, END, REQUEST, REQUESTS, ROUTES, StoredApp, routes_for
from proxy.kernel.asgi import Send
from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import Match, RouteTable


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/-/requests", REQUESTS),
        ("GET", "/-/requests/ab", REQUEST),
        ("DELETE", "/-/requests/ab", END),
        ("GET", "/-/requests/ab/answer", ANSWER),
    ],
)
async def test_each_route_has_its_handler(method: str, path: str, route: object) -> None:
    found = RouteTable(ROUTES).match(method, path)
    assert isinstance(found, Match)
    assert found.route is route
    assert found.route.kind == "stored"
    called: list[str] = []

    def handler(name: str):  # type: ignore[no-untyped-def]
        async def handle(exchange: Exchange, send: Send) -> None:
            called.append(name)

        return handle

    app = StoredApp({each: handler(f"{each.methods[0]} {each.path}") for each in ROUTES})

    match = found

    class Known:
        route = match.route

    await app({"method": method, "ollama_proxy.exchange": Known()}, None, None)  # type: ignore[arg-type]
    assert called == [f"{method} {found.route.path}"]


def test_a_chain_has_them_where_a_plugin_records_answers() -> None:
    assert routes_for(["logging", "queue"]) == ()
    assert routes_for(["logging", "defer"]) == ROUTES
    assert routes_for(["resumable"]) == ROUTES
