"""Kinds of credentials. What becomes of callers who are not let in is in tests/middleware/auth/test_plugin.py."""

import pytest

from middleware.auth import failure_throttle
from middleware.auth.caller import forbidden, too_many, unauthorized, unavailable
from middleware.auth.failure_throttle import FailureThrottle, Kind, kind_of
from middleware.auth.presented import NOTHING, Presented
from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused
from proxy.kernel.units import Rate
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.testing import ManualClock, make_exchange


@pytest.mark.parametrize(
    ("credential", "kind"),
    [
        (None, "malformed"),
        (NOTHING, "none"),
        (Presented("op_what"), "key"),
        (Presented("a.b.c"), "jwt"),
        (Presented("opaque"), "opaque"),
        (Presented(signature="a:b"), "signature"),
    ],
)
def test_kinds(credential: Presented | None, kind: Kind) -> None:
    assert kind_of(credential, make_exchange()) == kind


def test_a_certificate_counts_where_nothing_else_was_sent() -> None:
    exchange = make_exchange()
    exchange.scope["state"]["tls_peer"] = {"subject": ()}
    assert kind_of(NOTHING, exchange) == "certificate"
    assert kind_of(Presented("op_what"), exchange) == "key"


async def test_only_what_is_wrong_counts_against_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_throttle, "SLOWED", 0.0)
    keeper = FailureThrottle(Rate.parse("1/minute"), ManualClock(), WeakKeepsakes(), None)
    for refused in (
        forbidden("no", code=codes.NO_POLICY),
        unavailable("later", retry_after=1),
        too_many("later", retry_after=1),
        unauthorized("a key is required", reason="missing"),
        unauthorized("wrong"),
    ):
        await keeper.refuse(refused, "key", "192.0.2.1")
    with pytest.raises(Refused) as caught:
        await keeper.refuse(unauthorized("wrong"), "key", "192.0.2.1")
    assert caught.value.status == 429
