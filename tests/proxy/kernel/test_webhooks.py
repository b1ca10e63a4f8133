"""proxy/kernel/webhooks.py: what an entry notes of the address that its client names."""

import pytest
from pydantic import SecretStr

from proxy.kernel.asgi import Scope
from proxy.kernel.errors import Refused
from proxy.kernel.webhook_options import WebhookOptions
from proxy.kernel.webhooks import OPTIONS, WEBHOOK, webhook_meta

URL = "https://hooks.example.com/done"
OWN = WebhookOptions(
    targets=("https://hooks.example.com/*",), secret=SecretStr("whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY")
)


def scope(*values: str) -> Scope:
    return {"headers": [(b"x-webhook-url", value.encode("latin-1")) for value in values]}


def test_an_address_is_noted_with_what_permits_it() -> None:
    assert webhook_meta(scope(), None) == {}
    assert webhook_meta(scope(URL), OWN) == {WEBHOOK: URL, OPTIONS: OWN.mark}


@pytest.mark.parametrize(
    ("values", "rules"), [((URL,), None), (("https://evil.example/",), OWN), ((URL, URL), OWN), (("",), OWN)]
)
def test_what_may_not_be_called_is_refused(values: tuple[str, ...], rules: WebhookOptions | None) -> None:
    with pytest.raises(Refused) as refused:
        webhook_meta(scope(*values), rules)
    assert (refused.value.status, refused.value.code) == (403, "webhook_not_allowed")
