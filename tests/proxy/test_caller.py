"""proxy/caller.py."""

import pytest

from proxy.caller import caller_of
from tests.support.asgi import make_exchange


@pytest.mark.parametrize(
    ("identity", "client", "caller"),
    [
        ("alice", "192.0.2.7", "by alice"),
        (None, "192.0.2.7", "at 192.0.2.7"),
        (None, "2001:db8:1:2:3:4:5:6", "at 2001:db8:1:2::/64"),
        (None, "unix", "at unix"),
        ("192.0.2.7", "192.0.2.8", "by 192.0.2.7"),
    ],
)
def test_who_counts_as_one(identity: str | None, client: str, caller: str) -> None:
    exchange = make_exchange()
    exchange.identity, exchange.client = identity, client
    assert caller_of(exchange) == caller
