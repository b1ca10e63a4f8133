"""proxy/kernel/errors.py."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from proxy.kernel import error_codes as codes
from proxy.kernel import errors
from proxy.kernel.asgi import header
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import (
    BadAnswer,
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    Flavor,
    NotRouted,
    ProxyError,
    Refused,
    ShuttingDown,
    Truncated,
    UpstreamAnswer,
    UpstreamTimeout,
    render,
    render_record,
)

FLAVORS: list[Flavor] = ["ollama", "openai", "anthropic", "text"]


@pytest.mark.parametrize(
    ("error", "status", "code", "outcome"),
    [
        (Refused(403, "no"), 403, "forbidden", "refused"),
        (Refused(403, "no", code=codes.MODEL_NOT_ALLOWED), 403, "model_not_allowed", "refused"),
        (Refused(418, "no"), 418, "refused", "refused"),
        (NotRouted(404, "404 page not found"), 404, "not_found", "refused"),
        (Cancelled("no"), 499, "cancelled", "cancelled"),
        (ShuttingDown(), 503, "shutdown", "shutdown"),
        (ConnectFailed("x"), 502, "upstream_unreachable", "upstream_failed"),
        (ConnectionLost("x", sent=True, reused=False), 502, "upstream_connection_lost", "upstream_failed"),
        (BadAnswer("x"), 502, "upstream_bad_answer", "upstream_failed"),
        (UpstreamTimeout("x", timer="idle"), 504, "idle_timeout", "timed_out"),
        (UpstreamAnswer(503, [], b"", busy=True, missing=False), 503, "upstream_error", "upstream_failed"),
        (UpstreamAnswer(404, [], b"", busy=False, missing=True), 404, "upstream_error", "completed"),
        (Truncated("x"), 502, "upstream_truncated", "upstream_truncated"),
        (Truncated.after(BadAnswer("x")), 502, "upstream_bad_answer", "upstream_truncated"),
        (Truncated.after(UpstreamTimeout("x", timer="idle")), 502, "idle_timeout", "upstream_truncated"),
    ],
)
def test_each_error_says_what_it_is(error: ProxyError, status: int, code: str, outcome: str) -> None:
    assert (error.status, error.code, error.outcome) == (status, code, outcome)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    drawn = {line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    # A plugin may have errors of its own; they are refusals to everybody else.
    assert drawn == {error.__name__ for error in below(ProxyError) if error.__module__ == errors.__name__}


def below(error: type[ProxyError]) -> Iterator[type[ProxyError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from below(kind)


def test_what_may_have_arrived() -> None:
    assert (ConnectFailed("x").sent, ConnectFailed("x").received) == (False, False)
    lost = ConnectionLost("x", sent=True, reused=True)
    assert (lost.sent, lost.received, lost.reused) == (True, False, True)
    assert (Truncated("x").sent, Truncated("x").received) == (True, True)


def document(flavor: Flavor, error: ProxyError) -> Any:
    status, headers, body = render(flavor, error)
    assert status == error.status
    assert header(headers, b"content-length") == b"%d" % len(body)
    assert header(headers, b"content-type") == b"application/json; charset=utf-8"
    return orjson.loads(body)


def test_ollama() -> None:
    assert document("ollama", Refused(403, "no")) == {"error": "no", "code": "forbidden"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
    ],
)
def test_openai(status: int, kind: str) -> None:
    detail = {"message": "no", "type": kind, "param": None, "code": "x"}
    assert document("openai", Refused(status, "no", code=Code("x"))) == {"error": detail}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (403, "permission_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_anthropic(status: int, kind: str) -> None:
    detail = {"type": kind, "message": "no", "code": "x"}
    assert document("anthropic", Refused(status, "no", code=Code("x"))) == {"type": "error", "error": detail}


@pytest.mark.parametrize(
    ("flavor", "error"), [("text", Refused(404, "gone")), *((flavor, NotRouted(404, "gone")) for flavor in FLAVORS)]
)
def test_text(flavor: Flavor, error: ProxyError) -> None:
    status, headers, body = render(flavor, error)
    assert (status, body) == (404, b"gone")
    assert header(headers, b"content-type") == b"text/plain; charset=utf-8"


@pytest.mark.parametrize("flavor", FLAVORS)
def test_headers_are_added(flavor: Flavor) -> None:
    _, headers, _ = render(flavor, Refused(429, "slow down", headers={"Retry-After": "3"}))
    assert headers[2:] == [(b"x-error-code", b"rate_limit_exceeded"), (b"retry-after", b"3")]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_backends_own_answer_is_relayed(flavor: Flavor) -> None:
    headers = [(b"x-a", b"1"), (b"x-a", b"2")]
    assert render(flavor, UpstreamAnswer(404, headers, b"{}", busy=False, missing=True)) == (404, headers, b"{}")


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("message", ["\ud800", "a\u2028b", 'x"\r\n\x00é'])
def test_any_message_can_be_said(flavor: Flavor, message: str) -> None:
    render(flavor, Refused(400, message))[2].decode()
    record = render_record(flavor, Refused(400, message)).decode()
    assert len(record.rstrip("\n").splitlines()) == (2 if flavor == "anthropic" else 1)


@pytest.mark.parametrize(
    ("flavor", "record"),
    [
        ("ollama", b'{"error":"cut","code":"x"}\n'),
        ("openai", b'data: {"error":{"message":"cut","type":"api_error","param":null,"code":"x"}}\n\n'),
        (
            "anthropic",
            b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"cut","code":"x"}}\n\n',
        ),
    ],
)
def test_records_of_a_stream(flavor: Flavor, record: bytes) -> None:
    assert render_record(flavor, Refused(500, "cut", code=Code("x"))) == record
