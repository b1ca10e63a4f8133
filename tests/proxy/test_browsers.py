"""proxy/browsers.py: who is admitted, as a table; over sockets and in Chromium in tests/live/test_browsers.py."""

import pytest

from proxy.browsers import Gate
from proxy.cross_origin import CrossOrigin
from proxy.errors import Refused
from proxy.exchange import Exchange
from proxy.hosts import KnownHosts
from proxy.ops.routes import ROUTES
from proxy.routes import RouteTable
from tests.support.asgi import make_exchange

GATE = Gate(CrossOrigin(origins=["https://chat.example.com"]), KnownHosts(["llm.example.com"]))
HERE = {"host": "localhost:11435"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def exchange_of(headers: dict[str, str], method: str = "POST", path: str = "/api/generate") -> Exchange:
    exchange = make_exchange(method, path, headers=list(headers.items()))
    exchange._routes = RouteTable(ROUTES)
    exchange.reroute("")
    return exchange


def code_of(gate: Gate, exchange: Exchange) -> str | None:
    try:
        gate.admit(exchange)
    except Refused as refused:
        return refused.code
    return None


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        # Programs
        ({}, None),
        (HERE, None),
        ({"host": "llm.example.com"}, None),
        # Our own pages
        (HERE | {"origin": "http://localhost:11435", "sec-fetch-site": "same-origin"}, None),
        (HERE | {"sec-fetch-site": "same-origin"}, None),
        (HERE | {"sec-fetch-site": "none"}, None),
        ({"host": "llm.example.com", "origin": "https://llm.example.com"}, None),
        # Pages that may call
        (HERE | {"origin": "https://chat.example.com", "sec-fetch-site": "cross-site"}, None),
        (HERE | {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, None),
        (HERE | {"origin": "app://obsidian.md"}, None),
        # Those that may not
        (HERE | {"origin": "https://evil.example"}, "cross_origin"),
        (HERE | {"origin": "null"}, "cross_origin"),
        (HERE | {"origin": ""}, "cross_origin"),
        (HERE | {"sec-fetch-site": "cross-site"}, "cross_origin"),
        (HERE | LINK, "cross_origin"),
        # What no browser sends: the origin counts
        (HERE | {"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, "cross_origin"),
        (HERE | {"origin": "https://evil.example", "sec-fetch-site": "none"}, "cross_origin"),
        # A rebound name, whose page is of the same origin as it
        ({"host": "evil.example"}, "unknown_host"),
        (
            {"host": "evil.example:1", "origin": "http://evil.example:1", "sec-fetch-site": "same-origin"},
            "unknown_host",
        ),
        ({"origin": "http://evil.example"}, "unknown_host"),
    ],
)
def test_who_is_admitted(headers: dict[str, str], code: str | None) -> None:
    assert code_of(GATE, exchange_of(headers)) == code


def test_more_than_one_origin_is_none() -> None:
    exchange = make_exchange(headers=[("origin", "http://localhost:1"), ("origin", "http://localhost:1")])
    with pytest.raises(Refused) as caught:
        GATE.admit(exchange)
    assert (caught.value.status, caught.value.code) == (400, "bad_origin")


@pytest.mark.parametrize(
    ("method", "path", "changed", "code"),
    [
        ("GET", "/-/", {}, None),
        ("GET", "/-", {}, None),
        ("GET", "/-/docs", {}, None),
        ("HEAD", "/-/", {}, "cross_origin"),
        ("POST", "/-/", {}, "cross_origin"),
        ("GET", "/-/", {"sec-fetch-dest": "iframe"}, "cross_origin"),
        ("GET", "/-/", {"sec-fetch-mode": "no-cors"}, "cross_origin"),
        ("GET", "/-/config", {}, "cross_origin"),
        ("GET", "/-/assets/page.js", {}, "cross_origin"),
        ("GET", "/-/openapi.json", {}, "cross_origin"),
        ("GET", "/api/tags", {}, "cross_origin"),
        ("GET", "/nowhere", {}, "cross_origin"),
    ],
)
def test_links_from_other_sites_lead_to_pages_for_people_only(
    method: str, path: str, changed: dict[str, str], code: str | None
) -> None:
    assert code_of(GATE, exchange_of(HERE | LINK | changed, method, path)) == code


def test_a_trusted_proxy_may_say_another_host_than_the_browser_did() -> None:
    exchange = exchange_of(HERE | {"origin": "https://page.example", "sec-fetch-site": "same-origin"})
    assert code_of(GATE, exchange) == "cross_origin"
    exchange.relayed = True
    assert code_of(GATE, exchange) is None
    exchange = exchange_of(HERE | {"origin": "https://page.example", "sec-fetch-site": "cross-site"})
    exchange.relayed = True
    assert code_of(GATE, exchange) == "cross_origin"


def test_hosts_are_not_asked_where_callers_have_credentials() -> None:
    assert code_of(Gate(), exchange_of({"host": "evil.example"})) is None
    assert code_of(Gate(), exchange_of({"host": "evil.example", "origin": "http://other.example"})) == "cross_origin"


def test_what_is_admitted_carries_what_browsers_want_to_see() -> None:
    assert GATE.admit(exchange_of(HERE)) is None
    assert GATE.admit(exchange_of(HERE | {"origin": "http://localhost:11435"})) is None
    fields = GATE.admit(exchange_of(HERE | {"origin": "https://chat.example.com"}))
    assert fields is not None
    assert (b"access-control-allow-origin", b"https://chat.example.com") in fields


def test_only_a_preflight_request_is_answered_as_one() -> None:
    asked = HERE | {"origin": "app://x", "access-control-request-method": "POST"}
    assert GATE.preflight(exchange_of(asked, "OPTIONS"))
    assert GATE.preflight(exchange_of(asked)) is None
