"""proxy/relay/answer_sandbox.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.asgi import Header, header_values
from proxy.relay import answer_sandbox
from proxy.relay.answer_sandbox import as_data, is_data

DATA = [
    *("application/json", "application/json; charset=utf-8", "application/x-ndjson", "text/event-stream", "text/plain"),
    *("TEXT/PLAIN;charset=UTF-8", "application/octet-stream", "application/problem+json", "application/jsonl"),
    *("audio/wav", "video/mp4", "image/png", "image/jpeg", "application/gzip", "application/x-protobuf", "text/csv"),
]
SHOWN = [
    *("text/html", "text/html; charset=utf-8", "TEXT/HTML", "application/xhtml+xml", "image/svg+xml", "text/xml"),
    *("application/xml", "application/atom+xml", "application/rss+xml", "application/mathml+xml", "text/xsl"),
    *(
        "application/xslt+xml",
        "text/javascript",
        "application/javascript",
        "application/x-javascript",
        "text/ecmascript",
    ),
    *("text/jscript", "text/css", "text/vtt", "text/x-component", "application/pdf", "application/x-pdf", "text/rtf"),
    *("application/x-shockwave-flash", "application/wasm", "multipart/x-mixed-replace; boundary=x", "message/rfc822"),
    *("multipart/related", "application/hta", "application/manifest+json", "text/cache-manifest", "model/gltf+json"),
    *("application/x-ns-proxy-autoconfig", "application/vnd.mozilla.xul+xml", "application/signed-exchange", "*/*"),
    # None at all, or one that two readers may take for two
    *("", "html", "text", "text/", "/html", "application/json, text/html", "application/json,text/html", "text/html,"),
    *("application/json; a=,text/html", "text /html", "application/json text/html", "text/plain\x0btext/html", "x/y"),
]


@pytest.mark.parametrize("kind", DATA)
def test_data_goes_out_as_what_it_is(kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"x", b"1")]
    assert as_data(list(headers)) == [*headers, (b"x-content-type-options", b"nosniff")]


@pytest.mark.parametrize("kind", SHOWN)
def test_what_a_browser_shows_or_runs_goes_out_as_text_in_a_sandbox(kind: str) -> None:
    got = as_data([(b"content-type", kind.encode("latin-1")), (b"content-length", b"3")])
    assert header_values(got, b"content-type") == [b"text/plain; charset=utf-8"]
    assert header_values(got, b"content-security-policy") == [b"sandbox"]
    assert header_values(got, b"x-content-type-options") == [b"nosniff"]
    assert header_values(got, b"content-length") == [b"3"]


@pytest.mark.parametrize(
    "kinds", [("application/json", "text/html"), ("text/html", "application/json"), ("text/plain",) * 2]
)
def test_two_types_are_none(kinds: tuple[str, ...]) -> None:
    headers: list[Header] = [(b"content-type", kind.encode()) for kind in kinds]
    assert header_values(as_data(headers), b"content-type") == [b"text/plain; charset=utf-8"]


def test_an_answer_without_a_type_is_not_to_be_guessed() -> None:
    assert as_data([]) == [(b"x-content-type-options", b"nosniff")]


@given(st.binary(max_size=40))
def test_whatever_names_html_is_no_data(junk: bytes) -> None:
    assert not is_data(b"text/html" + junk)
    assert not is_data(junk + b"," + b"text/html")


def test_a_type_of_any_length_is_not_remembered() -> None:
    kept = answer_sandbox._is_data.cache_info().currsize
    assert not is_data(b"application/json; x=" + b"y" * 60_000)
    assert answer_sandbox._is_data.cache_info().currsize == kept
