import pytest

from middleware.auth.addresses import Addresses, AddressOptions
from middleware.auth.caller import Caller

ADDRESSES = Addresses(
    [
        AddressOptions(network="10.1.2.3", identity="printer"),
        AddressOptions(network=["10.1.0.0/16", "fd00::/8"], identity="office", tenant="acme", policy="staff"),
        AddressOptions(network="192.168.0.0/16", policy="guests"),
        AddressOptions(network="::1/128", identity="here"),
    ]
)


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("10.1.2.3", Caller("printer")),
        ("10.1.2.4", Caller("office", "acme", "staff")),
        ("fd12::1", Caller("office", "acme", "staff")),
        ("::ffff:10.1.9.9", Caller("office", "acme", "staff")),
        ("192.168.7.7", Caller(None, None, "guests")),
        ("::1", Caller("here")),
        ("10.2.0.1", None),
        ("127.0.0.1", None),
        ("unix", None),
        ("", None),
    ],
)
def test_who_calls_from_where(address: str, caller: Caller | None) -> None:
    assert ADDRESSES.caller(address) == caller


@pytest.mark.parametrize(
    "network", ["10.1.0.0/33", "10.1.2.3/16", "office", "", ["10.0.0.0/8", "x"], "::ffff:10.0.0.0/104"]
)
def test_networks_are_checked(network: str | list[str]) -> None:
    with pytest.raises(ValueError, match="network"):
        AddressOptions(network=network)
