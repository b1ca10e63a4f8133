"""Callers that are known by where they call from."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from middleware.credentials.caller import Caller
from proxy.units import PolicyName


def _network(text: str) -> str:
    ip_network(text)
    return text


Network = Annotated[str, AfterValidator(_network)]


class AddressOptions(BaseModel):
    """Some networks and who calls from them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    network: Network | list[Network]
    """Network or networks, like 10.1.0.0/16 or ::1/128."""
    identity: str | None = None
    """The callers' common identity; left out, they have none."""
    tenant: str | None = None
    """Their tenant."""
    policy: PolicyName | None = None
    """Their policy."""


class Addresses:
    """Finds the first entry that a caller's address is in."""

    def __init__(self, options: Iterable[AddressOptions]) -> None:
        self._entries: list[tuple[IPv4Network | IPv6Network, Caller]] = []
        for option in options:
            caller = Caller(option.identity, option.tenant, option.policy)
            networks = [option.network] if isinstance(option.network, str) else option.network
            self._entries += [(ip_network(network), caller) for network in networks]

    def caller(self, address: str) -> Caller | None:
        """Return who calls from `address`, None where it is in no entry (or is none, as of a unix socket)."""
        ip = _parsed(address)
        if ip is None:
            return None
        return next((caller for network, caller in self._entries if ip in network), None)


@lru_cache(maxsize=1024)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Read an address; one of IPv4 that came over an IPv6 socket is one of IPv4."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
