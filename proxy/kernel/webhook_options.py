"""Which addresses may be told that a request or a batch is over, and how it is signed."""

import base64
import binascii
import re
from functools import cached_property
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from proxy.kernel.client_address import read_address
from proxy.kernel.units import Mistake, Secret

LONGEST: Final = 2048
"""Characters of an address."""
PREFIX: Final = "whsec_"
SECRET: Final = range(24, 65)
"""Bytes of a secret, by Standard Webhooks."""
_URL: Final = re.compile(r"https?://[!-~]+", re.ASCII)
_DOTS: Final = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
PORTS: Final = {"http": 80, "https": 443}


class WebhookOptions(BaseModel):
    """Who may be called when a deferred request or a batch is over, by Standard Webhooks."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """The addresses that a client may name, such as `https://hooks.example.com/*`. A `*` at the end stands for any
    rest of the path, and a `*.` before the host's name for any one label or several. A target with `http` is called
    without TLS."""
    secret: Secret
    """The key that calls are signed with: `whsec_` and 24 to 64 bytes in base64."""
    networks: tuple[str, ...] = ()
    """Networks such as `10.0.0.0/24` that may be called although they are private, loopback or link-local. A target
    that names such an address itself needs none."""

    @field_validator("targets")
    @classmethod
    def _are_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for target in targets:
            host = urlsplit(target).hostname if _URL.fullmatch(target) else None
            if host is None or _parts(target.replace("*", "x")) is None:
                raise Mistake(f"{target!r} is no target; expected one like https://hooks.example.com/*")
            if "*" in host.removeprefix("*.") or "*" in target.partition("//")[2].partition("/")[2].removesuffix("*"):
                raise Mistake(f"{target!r}: a * stands at the end of the path, or alone before the host's name")
        return targets

    @field_validator("secret")
    @classmethod
    def _is_secret(cls, secret: Secret) -> Secret:
        text = secret.get_secret_value()
        try:
            if not text.startswith(PREFIX):
                raise ValueError
            key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise Mistake("expected whsec_ and base64, as `openssl rand -base64 32` prints it") from None
        if len(key) not in SECRET:
            raise Mistake(f"has {len(key)} bytes; expected 24 to 64")
        return secret

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for text in networks:
            try:
                ip_network(text)
            except ValueError:
                raise Mistake(f"{text!r} is no network; expected one like 10.0.0.0/24") from None
        return networks

    @cached_property
    def key(self) -> bytes:
        """Return the bytes that calls are signed with."""
        return base64.b64decode(self.secret.get_secret_value().removeprefix(PREFIX))

    @cached_property
    def mark(self) -> str:
        """Return what tells these options from others, without telling the secret."""
        return sha256(repr((self.key, self.targets, self.networks)).encode()).hexdigest()[:16]

    @cached_property
    def named(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the networks that may be called whatever they are, addresses that targets name included."""
        hosts = (urlsplit(target).hostname or "" for target in self.targets)
        addresses = [ip_network(address) for host in hosts if (address := read_address(host)) is not None]
        return (*map(ip_network, self.networks), *addresses)

    def permits(self, url: str) -> bool:
        """Return whether a client may name this address. Where it leads is looked at when it is called."""
        parts = _parts(url)
        return parts is not None and any(_matches(target, parts) for target in self.targets)


def _parts(url: str) -> SplitResult | None:
    """Return the parts of an address that can be called; None where it has anything that hides where it leads."""
    if len(url) > LONGEST or not _URL.fullmatch(url) or "\\" in url or "#" in url:
        return None
    try:
        parts = urlsplit(url)
        if not parts.hostname or "@" in parts.netloc or parts.port == 0 or _DOTS.search(parts.path):
            return None
    except ValueError:
        return None
    return parts


def _matches(target: str, parts: SplitResult) -> bool:
    wanted = urlsplit(target)
    if wanted.scheme != parts.scheme or (wanted.port or PORTS[wanted.scheme]) != (parts.port or PORTS[parts.scheme]):
        return False
    host, name = wanted.hostname or "", parts.hostname or ""
    if not (name.endswith(host[1:]) and name != host[2:] if host.startswith("*.") else name == host):
        return False
    rest = (wanted.path or "/") + (f"?{wanted.query}" if wanted.query else "")
    asked = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return asked.startswith(rest[:-1]) if rest.endswith("*") else asked == rest
