"""proxy/batches/routes.py."""

import pytest

from proxy.batches.routes import ROUTES
from proxy.kernel.routes import Match, RouteTable

TABLE = RouteTable(ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "argument"),
    [
        ("POST", "/v1/files", None),
        ("GET", "/v1/files/file-1", "file-1"),
        ("GET", "/v1/files/file-1/content", "file-1"),
        ("POST", "/v1/batches/b/cancel", "b"),
        ("POST", "/v1/messages/batches", None),
        ("GET", "/v1/messages/batches/m/results", "m"),
        ("DELETE", "/v1/messages/batches/m", "m"),
        ("POST", "/v1/messages", None),
    ],
)
def test_each_path_has_its_route(method: str, path: str, argument: str | None) -> None:
    match = TABLE.match(method, path)
    assert isinstance(match, Match)
    assert match.argument == argument
    assert (match.route.kind == "stored") == (path != "/v1/messages")


def test_errors_are_in_the_flavor_of_the_api() -> None:
    assert {route.flavor for route in ROUTES if route.path.startswith("/v1/messages")} == {"anthropic"}
    assert {route.flavor for route in ROUTES if not route.path.startswith("/v1/messages")} == {"openai"}
