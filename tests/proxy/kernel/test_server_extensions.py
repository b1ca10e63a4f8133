"""proxy/kernel/server_extensions.py. That the server keeps its word is tested in test_guard.py."""

from collections.abc import Callable

import pytest

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Scope
from proxy.kernel.errors import Refused
from proxy.kernel.server_extensions import gone_because, when_gone, writer


@pytest.mark.parametrize("scope", [{"type": "http"}, {"type": "http", "state": {}}])
def test_another_server_tells_nothing(scope: Scope) -> None:
    assert not when_gone(scope, lambda: None)
    assert gone_because(scope) is None


def test_our_server_is_asked() -> None:
    registered: list[Callable[[], None]] = []
    reason = Refused(408, "the client read nothing", code=codes.WRITE_TIMEOUT)
    scope: Scope = {"type": "http", "state": {"when_gone": registered.append, "gone": reason}}

    def callback() -> None: ...

    assert when_gone(scope, callback)
    assert registered == [callback]
    assert gone_because(scope) is reason
    assert not when_gone(scope, callback)  # once


def test_what_leads_back_to_the_connection_is_taken_out() -> None:
    def write(chunk: bytes) -> bool:
        return True

    scope: Scope = {"type": "http", "state": {"write": write}}
    assert writer(scope) is write
    assert scope["state"] == {}
    assert writer(scope) is None
