"""proxy/kernel/webhook_options.py: which addresses a client may name."""

import base64

import pytest
from pydantic import ValidationError

from proxy.kernel.webhook_options import WebhookOptions

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def options(*targets: str, networks: tuple[str, ...] = ()) -> WebhookOptions:
    return WebhookOptions.model_validate({"targets": targets, "secret": SECRET, "networks": networks})


@pytest.mark.parametrize(
    ("target", "url", "permitted"),
    [
        ("https://h.example/*", "https://h.example/a/b?c=d", True),
        ("https://h.example/*", "https://h.example", True),
        ("https://h.example/*", "https://H.EXAMPLE:443/", True),
        ("https://h.example/*", "http://h.example/a", False),
        ("https://h.example/*", "https://h.example:8443/a", False),
        ("https://h.example/*", "https://x.h.example/a", False),
        ("https://h.example/*", "https://h.example.evil/a", False),
        ("https://h.example/*", "https://h.example@evil/a", False),
        ("https://h.example/*", "https://u:p@h.example/a", False),
        ("https://h.example/*", "https://evil\\@h.example/a", False),
        ("https://h.example/*", "https://h.example/a#b", False),
        ("https://h.example/*", "https://h.example/a b", False),
        ("https://h.example/*", "https://h.example/ä", False),
        ("https://h.example/*", "https://h.example:0/", False),
        ("https://h.example/*", "https://h.example:99999/", False),
        ("https://h.example/*", "https://h.example/" + "a" * 3000, False),
        ("https://h.example/hooks/*", "https://h.example/hooks/1", True),
        ("https://h.example/hooks/*", "https://h.example/hooks", False),
        ("https://h.example/hooks/*", "https://h.example/hooks/../admin", False),
        ("https://h.example/hooks/*", "https://h.example/hooks/%2e%2E/admin", False),
        ("https://h.example/hooks/*", "https://h.example/hooks/./a", False),
        ("https://h.example/hooks/*", "https://h.example/hooks/a..b", True),
        ("https://h.example/hook", "https://h.example/hook", True),
        ("https://h.example/hook", "https://h.example/hook?x", False),
        ("https://h.example/hook", "https://h.example/hooks", False),
        ("https://*.h.example/*", "https://a.b.h.example/", True),
        ("https://*.h.example/*", "https://h.example/", False),
        ("https://*.h.example/*", "https://eh.example/", False),
        ("http://10.0.0.7:8080/*", "http://10.0.0.7:8080/x", True),
        ("http://[::1]:8080/*", "http://[::1]:8080/x", True),
    ],
)
def test_a_target_permits_what_it_names(target: str, url: str, permitted: bool) -> None:
    assert options(target).permits(url) is permitted


@pytest.mark.parametrize(
    "target", ["", "*", "h.example/*", "ftp://h/*", "https://*/*", "https://a*.b/*", "https://h/*/x", "https://h/a*b"]
)
def test_what_is_no_target(target: str) -> None:
    with pytest.raises(ValidationError):
        options(target)


@pytest.mark.parametrize(
    "secret", ["", "secret", "whsec_", "whsec_??", "whsec_" + base64.b64encode(b"k" * 23).decode()]
)
def test_what_is_no_secret(secret: str) -> None:
    with pytest.raises(ValidationError):
        WebhookOptions.model_validate({"targets": ["https://h/*"], "secret": secret})


def test_networks_are_those_that_are_named() -> None:
    named = options("http://10.0.0.7/*", "https://h.example/*", networks=("192.168.0.0/16",)).named
    assert list(map(str, named)) == ["192.168.0.0/16", "10.0.0.7/32"]
    with pytest.raises(ValidationError):
        options("https://h/*", networks=("10.0.0.1/8",))


def test_a_secret_is_not_shown() -> None:
    made = options("https://h.example/*")
    assert made.key == b"k" * 32
    assert SECRET not in repr(made)


def test_options_that_differ_have_marks_that_differ() -> None:
    first = options("https://h.example/*")
    assert first.mark == options("https://h.example/*").mark
    assert first.mark != options("https://h.example/*", networks=("10.0.0.0/8",)).mark
    assert first.mark != options("https://h.example/a").mark
    assert "k" * 8 not in first.mark
