"""proxy/departure.py. That the server keeps its word is tested in test_guard.py."""

from collections.abc import Callable

import pytest

from proxy.asgi import Scope
from proxy.departure import gone_because, when_gone


@pytest.mark.parametrize("scope", [{"type": "http"}, {"type": "http", "state": {}}])
def test_another_server_tells_nothing(scope: Scope) -> None:
    assert not when_gone(scope, lambda: None)
    assert gone_because(scope) is None


def test_our_server_is_asked() -> None:
    registered: list[Callable[[], None]] = []
    scope: Scope = {"type": "http", "state": {"when_gone": registered.append, "gone": "write_timeout"}}

    def callback() -> None: ...

    assert when_gone(scope, callback)
    assert registered == [callback]
    assert gone_because(scope) == "write_timeout"
