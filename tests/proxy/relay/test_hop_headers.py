"""proxy/relay/hop_headers.py."""

import pytest

from proxy.kernel.asgi import Header, Scope, header, header_values
from proxy.relay.hop_headers import downstream_headers, upstream_headers, via_names

NOSNIFF: Header = (b"x-content-type-options", b"nosniff")


def sent(*received: Header) -> list[Header]:
    scope: Scope = {"headers": list(received), "scheme": "https"}
    return upstream_headers(scope, host=b"gpu:11434", via=b"op-1", client="192.0.2.1", request_id="abc")


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "x-api-key", "cookie", "proxy-authorization", "origin", "accept-encoding", "expect",
        "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "content-length",
        "x-original-url", "x-rewrite-url", "x-http-method-override", "x-real-ip", "forwarded",
        "x_forwarded_for", "x_api_key", "content_length", "transfer_encoding", "x-forwarded_for",
    ],
)  # fmt: skip
def test_never_reaches_a_backend(name: str) -> None:
    assert b"canary" not in [value for _, value in sent((name.encode(), b"canary"))]


def test_the_rest_keeps_order_and_duplicates() -> None:
    got = sent((b"user-agent", b"ollama"), (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"x_odd", b"4"))
    assert got[1:6] == [(b"user-agent", b"ollama"), (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"x_odd", b"4")]


def test_ours_are_set_whatever_the_client_claims() -> None:
    got = sent(
        (b"host", b"chat.example.com"),
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"x-forwarded-proto", b"gopher"),
        (b"x-forwarded-host", b"evil"),
        (b"x-request-id", b"mine"),
        (b"via", b"1.1 edge"),
        (b"connection", b"close, host, via, x-forwarded-for, x-secret"),
        (b"x-secret", b"1"),
    )
    assert got == [
        (b"host", b"gpu:11434"),
        (b"via", b"1.1 edge, 1.1 op-1"),
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"chat.example.com"),
        (b"x-request-id", b"abc"),
    ]


def test_what_connection_names_is_dropped_in_both_directions() -> None:
    assert header(sent((b"connection", b"X-Hop"), (b"x-hop", b"1")), b"x-hop") is None
    got = downstream_headers([(b"Connection", b"X-Hop, close"), (b"X-Hop", b"1"), (b"X-Stays", b"2")])
    assert got == [(b"x-stays", b"2"), NOSNIFF]


def test_answers_lose_hop_by_hop_headers() -> None:
    got = downstream_headers(
        [
            (b"Content-Type", b"application/x-ndjson"),
            (b"Date", b"today"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Keep-Alive", b"timeout=5"),
            (b"X-Twice", b"1"),
            (b"X-Twice", b"2"),
            (b"Vary", b"Origin"),
        ]
    )
    assert got[0] == (b"content-type", b"application/x-ndjson")
    assert header_values(got, b"x-twice") == [b"1", b"2"]
    assert got[3:] == [(b"vary", b"Origin"), NOSNIFF]


@pytest.mark.parametrize(
    "name",
    [
        "Set-Cookie", "Clear-Site-Data", "Refresh", "Alt-Svc", "Strict-Transport-Security", "Service-Worker-Allowed",
        "SourceMap", "Link", "NEL", "Report-To", "Reporting-Endpoints", "Speculation-Rules", "Origin-Trial",
        "Content-Security-Policy", "X-Content-Type-Options", "Access-Control-Allow-Origin",
        "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers", "Access-Control-Allow-Private-Network",
    ],
)  # fmt: skip
def test_no_backend_speaks_for_the_origin_of_the_proxy(name: str) -> None:
    got = downstream_headers([(name.encode(), b"canary"), (name.upper().encode(), b"canary")])
    assert got == [NOSNIFF]


@pytest.mark.parametrize(
    "name", ["X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Limit-Rate", "X-Accel-Charset", "X-Sendfile"]
)
def test_no_backend_gives_orders_to_a_server_in_front(name: str) -> None:
    """nginx would send the client a file of its own instead of the answer."""
    assert downstream_headers([(name.encode(), b"/internal/secret"), (b"X-Accel-Buffering", b"no")]) == [
        (b"x-accel-buffering", b"no"),
        NOSNIFF,
    ]


def test_a_page_of_a_backend_is_no_page_of_the_proxy() -> None:
    got = downstream_headers([(b"Content-Type", b"text/html"), (b"Content-Length", b"9")])
    assert got == [
        (b"content-length", b"9"),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-security-policy", b"sandbox"),
        NOSNIFF,
    ]


def test_a_loop_is_seen_by_our_own_name_only() -> None:
    assert via_names([(b"via", b"1.1 edge, 1.1 op-1")], b"op-1")
    assert not via_names([(b"via", b"1.1 op-2"), (b"x", b"op-1")], b"op-1")
