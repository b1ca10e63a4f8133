import httpx
import pytest

from proxy.kernel.errors import Timer
from proxy.upstream import failures


@pytest.mark.parametrize(
    ("failure", "kind", "timer"),
    [
        (failures.NotConnected, httpx.ConnectError, None),
        (failures.ConnectTimedOut, httpx.ConnectTimeout, "connect"),
        (failures.NoConnectionFree, httpx.PoolTimeout, "connect"),
        (failures.HeadTimedOut, httpx.ReadTimeout, "first_byte"),
        (failures.IdleTimedOut, httpx.ReadTimeout, "idle"),
        (failures.WriteTimedOut, httpx.WriteTimeout, "write"),
        (failures.Disconnected, httpx.ReadError, None),
        (failures.CutShort, httpx.RemoteProtocolError, None),
        (failures.BadResponse, httpx.RemoteProtocolError, None),
        (failures.Unsendable, httpx.LocalProtocolError, None),
    ],
)
def test_each_is_an_httpx_exception_and_says_what_it_knows(
    failure: type[failures.TransportFailure], kind: type[httpx.TransportError], timer: Timer | None
) -> None:
    error = failure("why", sent=True, reused=True)
    assert isinstance(error, kind)
    assert isinstance(error, httpx.TransportError)
    assert (str(error), error.timer, error.sent, error.received, error.reused) == ("why", timer, True, False, True)


def test_the_tree_in_the_docstring_is_complete() -> None:
    named = [name for name in dir(failures) if name[0].isupper() and name != "Timer"]
    assert all(name in (failures.__doc__ or "") for name in named)
