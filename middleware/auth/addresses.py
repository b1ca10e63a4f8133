"""Authenticate callers by their network address."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict

from middleware.auth.caller import Caller
from proxy.kernel.client_address import read_address
from proxy.kernel.units import PolicyName

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def _network(text: str) -> str:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        raise ValueError("addresses of IPv4 are written as such, whatever socket they come over")
    return text


Network = Annotated[str, AfterValidator(_network)]


class AddressOptions(BaseModel):
    """Networks, and the caller for each address in them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    network: Network | list[Network]
    """Network or networks, like 10.1.0.0/16 or ::1/128."""
    identity: str | None = None
    """The callers' common identity; if left out, they have none."""
    tenant: str | None = None
    """The callers' tenant."""
    policy: PolicyName | None = None
    """The callers' policy."""


class Addresses:
    """Finds the first entry whose networks contain a caller's address."""

    def __init__(self, options: Iterable[AddressOptions]) -> None:
        self._entries: list[tuple[IPv4Network | IPv6Network, Caller]] = []
        for option in options:
            caller = Caller(option.identity, option.tenant, option.policy, method="address")
            networks = [option.network] if isinstance(option.network, str) else option.network
            self._entries += [(ip_network(network), caller) for network in networks]

    def caller(self, address: str) -> Caller | None:
        """Return the caller for `address`, or None if no entry has it (or it is none, as on a unix socket)."""
        ip = read_address(address)
        if ip is None:
            return None
        return next((caller for network, caller in self._entries if ip in network), None)
