"""proxy/chain/browser_gate.py: who is admitted, as a table; over sockets in tests/live/test_browsers.py."""

import gc
import tracemalloc

import pytest

from proxy.chain.browser_gate import PageGate
from proxy.kernel.cross_origin import CrossOrigin
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.routes import RouteTable
from proxy.ops.routes import ROUTES
from proxy.testing import make_exchange, suppose

GATE = PageGate(CrossOrigin(origins=["https://chat.example.com"]), KnownHosts(["llm.example.com"]))
HERE = {"host": "localhost:11435"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def exchange_of(headers: dict[str, str], method: str = "POST", path: str = "/api/generate") -> Exchange:
    exchange = make_exchange(method, path, headers=list(headers.items()))
    exchange._routes = RouteTable(ROUTES)
    exchange.reroute("")
    return exchange


def code_of(gate: PageGate, exchange: Exchange) -> str | None:
    try:
        gate.admit(exchange)
        gate.check_host(exchange)
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
        ({"origin": "http://evil.example"}, "cross_origin"),
        ({"origin": "app://x"}, "unknown_host"),
        ({"host": "evil.example", "origin": "app://x"}, "unknown_host"),
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
        ("GET", "/", {}, None),
        ("GET", "/api/version", {}, None),
        ("HEAD", "/", {}, "cross_origin"),
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
    suppose(exchange, relayed=True)
    assert code_of(GATE, exchange) is None
    exchange = exchange_of(HERE | {"origin": "https://page.example", "sec-fetch-site": "cross-site"})
    suppose(exchange, relayed=True)
    assert code_of(GATE, exchange) == "cross_origin"


CERTIFICATE = {"tls_peer": {"subject": ()}}


@pytest.mark.parametrize(
    ("origin", "credentials", "code"),
    [
        (None, False, None),
        ("http://localhost:11435", False, None),  # our own page
        ("http://localhost:3000", False, "cross_origin"),
        ("app://obsidian.md", True, "cross_origin"),
        ("https://chat.example.com", False, "cross_origin"),
        ("https://chat.example.com", True, None),
    ],
)
def test_a_page_acts_with_a_client_certificate_only_where_it_may_have_credentials(
    origin: str | None, credentials: bool, code: str | None
) -> None:
    gate = PageGate(CrossOrigin(origins=["https://chat.example.com"], credentials=credentials))
    exchange = exchange_of(HERE | ({} if origin is None else {"origin": origin}))
    exchange.scope["state"] = CERTIFICATE
    assert code_of(gate, exchange) == code


def test_the_refusal_of_a_page_with_a_certificate_says_what_to_do() -> None:
    exchange = exchange_of(HERE | {"origin": "http://localhost:3000"})
    exchange.scope["state"] = CERTIFICATE
    with pytest.raises(Refused, match=r"with a client certificate.*cors\.credentials: true"):
        GATE.admit(exchange)


@pytest.mark.parametrize("path", ["/-/healthz", "/-/readyz"])
def test_probes_call_by_whatever_name_they_have(path: str) -> None:
    assert code_of(GATE, exchange_of({"host": "ollama-proxy:11435"}, "GET", path)) is None
    assert code_of(GATE, exchange_of({"host": "ollama-proxy:11435"}, "POST", path)) == "unknown_host"
    assert (
        code_of(GATE, exchange_of({"host": "evil.example", "origin": "http://a.example"}, "GET", path))
        == "cross_origin"
    )


def test_a_stranger_fills_no_memory_with_origins_and_hosts() -> None:
    def called(number: int) -> None:
        long = f"{number}-" + "x" * 60_000
        code_of(GATE, exchange_of({"host": long, "origin": f"https://{long}"}))
        code_of(GATE, exchange_of({"host": long}))

    called(0)
    tracemalloc.start()
    try:
        for number in range(1, 101):
            called(number)
        gc.collect()  # an exchange of a test is a cycle
        assert tracemalloc.get_traced_memory()[0] < 20 * 60_000
    finally:
        tracemalloc.stop()


def test_hosts_are_not_asked_where_callers_have_credentials() -> None:
    assert code_of(PageGate(), exchange_of({"host": "evil.example"})) is None
    assert (
        code_of(PageGate(), exchange_of({"host": "evil.example", "origin": "http://other.example"})) == "cross_origin"
    )


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
