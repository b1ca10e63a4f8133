import pytest

from middleware.auth.path_token import take_path_token
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange

KEY = "op_4fQn0ZrT7LkP_0123456789abcdef0123456789abcdef"


def scope_text(exchange: Exchange) -> str:
    return repr({name: value for name, value in exchange.scope.items() if value is not exchange}) + repr(exchange)


@pytest.mark.parametrize(
    ("path", "rest", "route"),
    [
        (f"/k/{KEY}/api/chat", "/api/chat", "/api/chat"),
        (f"/k/{KEY}/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions"),
        (f"/k/{KEY}/api/chat/", "/api/chat/", None),
    ],
)
def test_the_key_leaves_the_path_and_what_remains_is_routed(path: str, rest: str, route: str | None) -> None:
    exchange = make_exchange("POST", path)
    assert take_path_token(exchange, enabled=True) == KEY
    assert exchange.scope["path"] == rest
    assert exchange.scope["raw_path"] == rest.encode()
    assert (exchange.route.path if exchange.route else None) == route
    assert KEY not in scope_text(exchange)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("/k/secret/nowhere", "/k/***"),
        ("/k/other/secret/api/chat", "/k/***"),  # a key with a slash in it, percent-encoded by the client
        ("/k/other/k/secret/api/chat", "/k/***"),
        ("/k/other//secret/api/chat", "/k/***"),
        ("/k//secret/api/chat", "/k/***"),
        ("//k/secret/api/chat", "//k/***"),
        ("/K/secret/api/chat", "/K/***"),
        ("/k%2Fsecret/api/chat", "/k/***"),
        ("/ollama/k/secret/api/chat", "/ollama/k/***"),
        ("/api/chat/k/secret", "/api/chat/k/***"),
        ("/x\n/k/secret", "/x\n/k/***"),
    ],
)
def test_a_path_that_leads_nowhere_is_blotted_out_where_a_key_may_be(path: str, left: str, enabled: bool) -> None:
    exchange = make_exchange("POST", path)
    take_path_token(exchange, enabled=enabled)
    assert exchange.scope["path"] == left
    assert exchange.route is None
    assert "secret" not in scope_text(exchange)


@pytest.mark.parametrize("path", [f"/k/{KEY}", f"/k/{KEY}/"])
def test_the_bare_prefix_is_the_root(path: str) -> None:
    exchange = make_exchange("HEAD", path)
    assert take_path_token(exchange, enabled=True) == KEY
    assert exchange.scope["path"] == "/"
    assert exchange.route is not None
    assert exchange.route.open


@pytest.mark.parametrize("path", ["/api/chat", "/", "/k", "/kk/x", "/api/k", "/v1/models/k"])
def test_other_paths_stay(path: str) -> None:
    exchange = make_exchange("POST", path)
    assert take_path_token(exchange, enabled=True) is None
    assert exchange.scope["path"] == path


def test_errors_are_said_in_the_flavor_of_what_remains() -> None:
    exchange = make_exchange("POST", f"/k/{KEY}/v1/messages")
    take_path_token(exchange, enabled=True)
    assert exchange.flavor == "anthropic"


@pytest.mark.parametrize("path", [f"/k/{KEY}/api/chat", f"/k/{KEY}", f"/k/{KEY}/"])
def test_switched_off_the_key_is_blotted_out_and_leads_nowhere(path: str) -> None:
    exchange = make_exchange("POST", path)
    assert take_path_token(exchange, enabled=False) is None
    assert exchange.route is None
    assert KEY not in scope_text(exchange)
    assert exchange.scope["path"] == "/k/***"


def test_a_root_path_of_the_server_is_kept() -> None:
    exchange = make_exchange("POST", f"/k/{KEY}/api/chat")
    exchange.scope["root_path"] = "/ollama"
    take_path_token(exchange, enabled=True)
    assert exchange.scope["root_path"] == "/ollama"
