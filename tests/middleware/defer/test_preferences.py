"""What a client asks for in its header fields."""

import pytest
from pydantic import SecretStr

from middleware.defer.preferences import Preferences, idempotency_key, preferences, webhook_url
from proxy.kernel.asgi import Scope
from proxy.kernel.errors import Refused
from proxy.kernel.webhook_options import WebhookOptions


def scope(name: str, *values: str) -> Scope:
    return {"headers": [(name.encode(), value.encode("latin-1")) for value in values]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), Preferences()),
        (("respond-async",), Preferences(True)),
        (("Respond-Async, wait=10",), Preferences(True, 10)),
        (("respond-async", "wait=10"), Preferences(True, 10)),
        (("wait=10",), Preferences(False, 10)),
        (('wait="10"; x=y, respond-async; z',), Preferences(True, 10)),
        (("wait=10, wait=20",), Preferences(False, 10)),
        (("wait=999999999",), Preferences(False, 3600)),
        (("return=minimal, handling=lenient",), Preferences()),
        (("respond-asynchronous, wait=-1, wait=x",), Preferences()),
    ],
)
def test_preferences(values: tuple[str, ...], expected: Preferences) -> None:
    assert preferences(scope("prefer", *values)) == expected


def test_keys() -> None:
    assert idempotency_key(scope("idempotency-key")) is None
    assert idempotency_key(scope("idempotency-key", "a b")) == "a b"
    assert idempotency_key(scope("idempotency-key", '"a b"')) == "a b"
    assert idempotency_key(scope("idempotency-key", "k" * 255)) == "k" * 255
    for wrong in (("",), ('""',), ("k" * 256,), ("é",), ("a", "b")):
        with pytest.raises(Refused, match="Idempotency-Key"):
            idempotency_key(scope("idempotency-key", *wrong))


def test_webhooks() -> None:
    options = WebhookOptions(
        targets=("https://hooks.example.com/*",), secret=SecretStr("whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY")
    )
    url = "https://hooks.example.com/done"
    assert webhook_url(scope("x-webhook-url"), None) is None
    assert webhook_url(scope("x-webhook-url", url), options) == url
    for values, rules in [((url,), None), (("https://evil.example/",), options), ((url, url), options)]:
        with pytest.raises(Refused) as refused:
            webhook_url(scope("x-webhook-url", *values), rules)
        assert (refused.value.status, refused.value.code) == (403, "webhook_not_allowed")
