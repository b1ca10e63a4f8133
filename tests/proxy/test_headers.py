"""proxy/headers.py."""

import pytest

from proxy.asgi import Header, Scope, header, header_values
from proxy.headers import downstream_headers, upstream_headers, via_names


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
    assert got == [(b"x-stays", b"2")]


def test_answers_lose_hop_by_hop_headers_only() -> None:
    got = downstream_headers(
        [
            (b"Content-Type", b"application/x-ndjson"),
            (b"Date", b"today"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Keep-Alive", b"timeout=5"),
            (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"),
        ]
    )
    assert got[0] == (b"content-type", b"application/x-ndjson")
    assert header_values(got, b"set-cookie") == [b"a=1", b"b=2"]
    assert len(got) == 3


def test_a_loop_is_seen_by_our_own_name_only() -> None:
    assert via_names([(b"via", b"1.1 edge, 1.1 op-1")], b"op-1")
    assert not via_names([(b"via", b"1.1 op-2"), (b"x", b"op-1")], b"op-1")
