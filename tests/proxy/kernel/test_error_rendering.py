"""proxy/kernel/error_rendering.py."""

from typing import Any

import orjson
import pytest

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import header
from proxy.kernel.error_codes import Code
from proxy.kernel.error_rendering import render, render_record
from proxy.kernel.errors import Flavor, NoModel, NotRouted, ProxyError, Refused, UpstreamAnswer

FLAVORS: list[Flavor] = ["ollama", "openai", "anthropic", "text"]


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
    ("flavor", "body"),
    [
        ("ollama", b'{"error":"no"}'),
        ("openai", b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}'),
        ("anthropic", b'{"type":"error","error":{"type":"invalid_request_error","message":"no"},"request_id":"1f"}'),
    ],
)
def test_an_error_that_ollama_makes_too_has_its_body(flavor: Flavor, body: bytes) -> None:
    assert render(flavor, Refused(400, "no"), "1f")[2] == body
    status, headers, found = render(flavor, NoModel(400, "no"), "1f")
    assert (status, found) == (400, body if flavor == "ollama" else body + b"\n")
    bare = flavor != "ollama"  # its handlers for the other APIs write a line feed and name no charset
    assert header(headers, b"content-type") == (b"application/json" if bare else b"application/json; charset=utf-8")
    assert header(headers, b"x-error-code") == b"invalid_request"
    assert render(flavor, NoModel(400, "no", early=True), "1f")[2] == body


def test_anthropics_form_has_the_id_of_the_request() -> None:
    found = orjson.loads(render("anthropic", Refused(403, "no"), "1f")[2])
    assert list(found) == ["type", "error", "request_id"]
    assert (found["request_id"], found["error"]["code"]) == ("1f", "forbidden")


def test_ollamas_client_in_go_reads_the_status_of_a_401() -> None:
    assert document("ollama", Refused(401, "no key")) == {
        "error": "no key", "status": "no key", "code": "invalid_api_key"
    }  # fmt: skip
    assert "status" not in document("ollama", Refused(403, "no"))
    assert "status" not in document("openai", Refused(401, "no"))


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    ("error", "final"),
    [
        (Refused(401, "no"), True),
        (Refused(403, "no"), True),
        (Refused(403, "no", code=Code("acme_no_team")), True),
        (Refused(409, "which one?", code=codes.BACKEND_REQUIRED), True),
        (Refused(500, "poison", code=codes.SUSPECTED_POISON), True),
        (Refused(508, "loop"), True),
        (Refused(429, "tomorrow", headers={"Retry-After": "3600"}), True),
        (Refused(503, "in an hour", headers={"retry-after": "3600"}), True),
        (Refused(429, "soon", headers={"retry-after": "60"}), False),
        (Refused(429, "soon"), False),
        (Refused(409, "conflict"), False),
        (Refused(500, "bug"), False),
        (Refused(503, "overloaded"), False),
        (Refused(400, "no"), False),  # nobody sends one of these again
        (Refused(404, "no"), False),
    ],
)
def test_what_is_final_says_so(flavor: Flavor, error: ProxyError, final: bool) -> None:
    assert header(render(flavor, error)[1], b"x-should-retry") == (b"false" if final else None)


def test_a_plugin_may_say_for_itself_whether_to_try_again() -> None:
    headers = render("openai", Refused(403, "not yet", headers={"X-Should-Retry": "true"}))[1]
    assert [value for name, value in headers if name == b"x-should-retry"] == [b"true"]


@pytest.mark.parametrize(
    ("flavor", "error"), [("text", Refused(404, "gone")), *((flavor, NotRouted(404, "gone")) for flavor in FLAVORS)]
)
def test_text(flavor: Flavor, error: ProxyError) -> None:
    status, headers, body = render(flavor, error)
    assert (status, body) == (404, b"gone")
    ours = b"text/plain; charset=utf-8"
    assert header(headers, b"content-type") == (b"text/plain" if isinstance(error, NotRouted) else ours)


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
