"""proxy/background/routes.py."""

from proxy.background.routes import ROUTES
from proxy.kernel.routes import Match, RouteTable


def test_the_query_is_kept() -> None:
    match = RouteTable(ROUTES).match("GET", "/v1/responses/resp_1", b"stream=true&starting_after=3&x=1")
    assert isinstance(match, Match)
    assert (match.argument, match.target) == ("resp_1", b"/v1/responses/resp_1?stream=true&starting_after=3")


def test_making_a_response_is_no_stored_route() -> None:
    match = RouteTable(ROUTES).match("POST", "/v1/responses")
    assert isinstance(match, Match)
    assert match.route.kind == "inference"
