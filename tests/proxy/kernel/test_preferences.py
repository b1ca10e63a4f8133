"""proxy/kernel/preferences.py."""

import pytest

from proxy.kernel.asgi import Scope
from proxy.kernel.errors import Refused
from proxy.kernel.preferences import Preferences, idempotency_key, preferences


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
        (('respond-async="", wait="5"',), Preferences(True, 5)),
        (("respond-async=1",), Preferences()),
        (('a="x, respond-async, wait=3"',), Preferences()),
        (('a="x\\", wait=3", respond-async',), Preferences(True)),
        (('respond-async, a="x, wait=3',), Preferences(True)),
        (('"' * 9000,), Preferences()),
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
