"""proxy/kernel/cross_origin.py."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.asgi import Header, Scope, header, header_values
from proxy.kernel.cross_origin import CrossOrigin, for_page, foreign, is_preflight, same_origin
from proxy.testing import make_exchange

CHAT = "https://chat.example.com"


def scope_of(host: str | None, *, scheme: str = "http", method: str = "POST", **headers: str) -> Scope:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    scope = make_exchange(method, headers=fields if host is None else [("host", host), *fields]).scope
    scope["scheme"] = scheme
    return scope


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "same"),
    [
        ("http://localhost:11435", "localhost:11435", "http", True),
        ("http://LOCALHOST:11435", "localhost.:11435", "http", True),
        ("http://evil.example", "evil.example", "http", True),  # a rebound name: KnownHosts refuses it
        ("http://[::1]:1", "[0:0:0:0:0:0:0:1]:1", "http", True),
        # Default ports
        ("http://x.example", "x.example:80", "http", True),
        ("http://x.example:80", "x.example", "http", True),
        ("https://x.example", "x.example:443", "http", True),
        ("https://x.example", "x.example", "http", True),
        ("https://x.example:443", "x.example", "https", True),
        ("http://x.example", "x.example:443", "http", False),
        ("https://x.example", "x.example:80", "http", False),
        ("https://x.example", "x.example:8443", "http", False),
        # TLS that ends in front, and TLS that ends here
        ("https://x.example:11435", "x.example:11435", "http", True),
        ("http://x.example:11435", "x.example:11435", "https", False),
        # Others
        ("http://localhost:3000", "localhost:11435", "http", False),
        ("http://127.0.0.1:11435", "localhost:11435", "http", False),
        ("http://x.example.evil.example", "x.example", "http", False),
        ("http://x.example@evil.example", "x.example", "http", False),
        ("http://user@x.example", "x.example", "http", False),
        ("http://x.example/", "x.example", "http", False),
        ("x.example", "x.example", "http", False),
        ("//x.example", "x.example", "http", False),
        ("ftp://x.example", "x.example", "http", False),
        ("null", "null", "http", False),
        ("", "x.example", "http", False),
        ("http://x.example", None, "http", False),
        ("http://", "", "http", False),
    ],
)
def test_same_origin(origin: str, host: str | None, scheme: str, same: bool) -> None:
    assert same_origin(origin, scope_of(host, scheme=scheme)) is same


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
PORTS = st.none() | st.integers(1, 65535)


def authority(name: str, port: int | None) -> str:
    return name if port is None else f"{name}:{port}"


@given(NAMES, PORTS, NAMES, PORTS, st.sampled_from(["http", "https"]), st.booleans(), st.booleans())
def test_an_origin_is_the_same_in_every_spelling_and_no_other(
    name: str, port: int | None, other: str, other_port: int | None, scheme: str, upper: bool, dot: bool
) -> None:
    default = {"http": 80, "https": 443}[scheme]
    origin = f"{scheme}://{authority(name, port)}"
    spelled = authority((other.upper() if upper else other) + "." * dot, other_port)
    expected = name == other and (port or default) == (other_port or default)
    assert same_origin(origin, scope_of(spelled)) is expected
    assert same_origin(f"{scheme}://user@{authority(name, port)}", scope_of(spelled)) is False
    assert same_origin(origin.upper(), scope_of(authority(name, port)))


OLLAMAS = [
    *(f"{scheme}://{host}{port}" for scheme in ("http", "https") for host in ("localhost", "127.0.0.1", "0.0.0.0")
      for port in ("", ":3000")),
    *("http://[::1]:3000", "http://LOCALHOST:3000", "http://localhost.:5173"),
    *("app://obsidian.md", "app://-", "file://", "tauri://localhost", "vscode-webview://1a2b3c", "vscode-file://vscode-app"),
]  # fmt: skip
STRANGERS = [
    *(
        "https://evil.example",
        "null",
        "",
        "http://localhost.evil.example",
        "http://localhostevil",
        "http://127.0.0.1.nip.io",
    ),
    *(
        "http://localhost@evil.example",
        "http://localhost:3000@evil.example",
        "http://localhost:x",
        "http://evil.localhost",
    ),
    *(
        "http://127.0.0.2",
        "http://192.168.1.5",
        "http://10.0.0.1:80",
        "ftp://localhost",
        "apps://x",
        "xapp://x",
        "file:",
    ),
    *("chrome-extension://abcdef", "moz-extension://x", "safari-web-extension://x", "http://localhost:3000/"),
    *("http://localhost, http://evil.example", "app://x, https://evil.example", "app://x y", "http://localhost\n"),
    "app://" + "x" * 600,
]


@pytest.mark.parametrize("origin", OLLAMAS)
def test_what_ollama_allows_is_allowed_unless_it_is_not_wanted(origin: str) -> None:
    fields = CrossOrigin().answer_fields(origin)
    assert fields is not None
    assert header(fields, b"access-control-allow-origin") == origin.encode()
    assert CrossOrigin(origins=[CHAT]).answer_fields(origin) is not None
    assert CrossOrigin(origins=[CHAT], ollama_origins=False).answer_fields(origin) is None


@pytest.mark.parametrize("origin", STRANGERS)
def test_others_may_not_call(origin: str) -> None:
    assert CrossOrigin().answer_fields(origin) is None
    assert CrossOrigin(origins=[CHAT]).answer_fields(origin) is None


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        (CHAT, CHAT, True),
        (CHAT, "https://CHAT.example.com:443", True),
        ("https://chat.example.com:443", CHAT, True),
        (CHAT, "http://chat.example.com", False),
        (CHAT, "https://chat.example.com:8443", False),
        (CHAT, "https://chat.example.com.evil.example", False),
        ("null", "null", True),
        ("chrome-extension://abc", "chrome-extension://abc", True),
        ("chrome-extension://*", "chrome-extension://abcdef", True),
        ("chrome-extension://*", "moz-extension://abcdef", False),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evil.example/.example.com", False),
        ("https://*.example.com", "https://user@evil.example.com", False),
        ("https://*.example.com", "https://a.example.com.evil.example", False),
        ("http://box:*", "http://box:8080", True),
        ("http://box:*", "http://box", False),
        ("http://box:*", "http://box:@evil.example", False),
        ("*", "https://anybody.example", True),
        ("*", "null", True),
    ],
)
def test_origins_of_the_policy_file(allowed: str, origin: str, may: bool) -> None:
    cors = CrossOrigin(origins=[allowed], ollama_origins=False)
    assert (cors.answer_fields(origin) is not None) is may


@given(st.text(max_size=30))
def test_a_star_stands_for_a_part_of_a_name_only(middle: str) -> None:
    cors = CrossOrigin(origins=["https://*.example.com"], ollama_origins=False)
    if cors.answer_fields(f"https://{middle}.example.com") is not None:
        assert not set(middle) & set("/@?#\\, \t\r\n")


@pytest.mark.parametrize(
    "origin", ["chat.example.com", "https://chat.example.com/", "https://", "https://a b", "localhost:3000"]
)
def test_an_origin_that_none_can_have_is_a_mistake(origin: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        CrossOrigin(origins=[origin])


@pytest.mark.parametrize("origin", ["https://*.*.example.com", "*.example.com", "*://localhost"])
def test_a_star_stands_behind_the_scheme_and_once(origin: str) -> None:
    with pytest.raises(ValueError, match=r"one \* stands for a part"):
        CrossOrigin(origins=[origin])


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*", "http://*", "HTTP://*", "http://*:3000", "https://chat.*", "https://b*:8443"],
)
def test_credentials_go_with_no_page_of_anybody(origin: str) -> None:
    with pytest.raises(ValueError, match="needs its origins by name"):
        CrossOrigin(credentials=True, origins=[CHAT, origin])


@pytest.mark.parametrize("origin", ["https://*.example.com", "http://box:*", "http://[::1]:*", "https://*.corp:8443"])
def test_a_name_that_somebody_owns_may_have_a_star(origin: str) -> None:
    CrossOrigin(credentials=True, origins=[origin])


def test_credentials_go_with_the_pages_named_and_not_with_those_of_ollama() -> None:
    cors = CrossOrigin(origins=[CHAT], credentials=True)
    assert header(cors.answer_fields(CHAT) or [], b"access-control-allow-credentials") == b"true"
    local = cors.answer_fields("http://localhost:3000")
    assert local is not None
    assert header(local, b"access-control-allow-credentials") is None


def test_every_origin_is_said_with_a_star_and_varies_with_nothing() -> None:
    fields = CrossOrigin(origins=["*"]).answer_fields("https://anybody.example") or []
    assert header(fields, b"access-control-allow-origin") == b"*"
    assert header(fields, b"vary") is None


def test_scripts_may_read_what_the_proxy_says_beside_the_answer() -> None:
    exposed = header(CrossOrigin().answer_fields("app://x") or [], b"access-control-expose-headers") or b""
    for name in ("x-request-id", "retry-after", "x-error-code", "x-ratelimit-remaining-tokens", "ratelimit"):
        assert name.encode() in exposed.split(b", ")
    assert header(CrossOrigin(expose=[]).answer_fields("app://x") or [], b"access-control-expose-headers") is None


def test_preflight_requests_are_told_everything_they_ask() -> None:
    ask = scope_of(
        "localhost",
        method="OPTIONS",
        access_control_request_method="DELETE",
        access_control_request_headers="authorization, x-anything",
        access_control_request_private_network="true",
    )
    assert is_preflight(ask)
    fields = CrossOrigin(max_age=60.0).preflight_fields(ask)
    assert header(fields, b"access-control-max-age") == b"60"
    assert header(fields, b"access-control-allow-headers") == b"authorization, x-anything"
    assert b"DELETE" in (header(fields, b"access-control-allow-methods") or b"").split(b", ")
    assert header(fields, b"access-control-allow-private-network") is None
    fields = CrossOrigin(headers=["authorization"], private_network=True).preflight_fields(ask)
    assert header(fields, b"access-control-allow-headers") == b"authorization"
    assert header(fields, b"access-control-allow-private-network") == b"true"
    plain = scope_of("localhost", method="OPTIONS", access_control_request_method="POST")
    fields = CrossOrigin(private_network=True).preflight_fields(plain)
    assert header(fields, b"access-control-allow-private-network") is None
    assert header(fields, b"access-control-allow-headers") is None


def test_options_alone_is_no_preflight_request() -> None:
    assert not is_preflight(scope_of("localhost", method="OPTIONS"))
    assert not is_preflight(scope_of("localhost", method="POST", access_control_request_method="POST"))


@pytest.mark.parametrize(
    ("sent", "vary"),
    [
        ([], [b"Origin"]),
        ([(b"vary", b"Origin")], [b"Origin"]),
        ([(b"Vary", b"origin, Accept-Encoding")], [b"origin, Accept-Encoding"]),
        ([(b"vary", b"Accept"), (b"vary", b"ORIGIN ,accept,")], [b"Accept, ORIGIN"]),
        ([(b"vary", b"*")], [b"*"]),
    ],
)
def test_an_answer_varies_with_the_origin_once(sent: Sequence[Header], vary: list[bytes]) -> None:
    fields = CrossOrigin().answer_fields("app://x") or []
    assert header_values(for_page([*sent, (b"x", b"1")], fields), b"vary") == vary


def test_cors_fields_of_others_give_way_to_ours() -> None:
    fields = CrossOrigin().answer_fields("app://x") or []
    theirs = [(b"Access-Control-Allow-Origin", b"*"), (b"access-control-allow-credentials", b"true"), (b"x", b"1")]
    got = for_page(theirs, fields)
    assert header_values(got, b"access-control-allow-origin") == [b"app://x"]
    assert got[0] == (b"x", b"1")
    assert b"access-control-allow-credentials" not in dict(got)


def test_the_refusal_says_which_origin_and_what_to_do() -> None:
    refused = foreign("https://evil.example")
    assert (refused.status, refused.code) == (403, "cross_origin")
    assert "https://evil.example" in refused.message
    assert "cors.origins" in refused.message
    assert "\x1b" not in foreign("https://\x1b]0;").message
    assert "(" not in foreign(None).message
