"""The key of a limit, by which requests are counted together: identity, end user, tenant, model, and so on."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote

from proxy.kernel.client_address import block
from proxy.kernel.derived_models import base_key
from proxy.kernel.exchange import Exchange

_CACHED: Final = 1024
"""Longest text, in characters, that is cached; callers choose their names themselves."""

By = Literal["identity", "end_user", "tenant", "address", "model"]


def _safe(text: str) -> str:
    return _quoted(text) if len(text) <= _CACHED else quote(text, safe=":", errors="backslashreplace")


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return quote(text, safe=":", errors="backslashreplace")


def _identity(exchange: Exchange) -> str:
    return _safe(exchange.identity) if exchange.identity else f"@{block(exchange.client)}"


def _end_user(exchange: Exchange) -> str:
    user = exchange.end_user
    return _identity(exchange) if user is None else f"{_identity(exchange)}/{_safe(user)}"


def _tenant(exchange: Exchange) -> str:
    return _safe(exchange.tenant) if exchange.tenant else f"@{_identity(exchange)}"


def _address(exchange: Exchange) -> str:
    return block(exchange.client)


def _model(exchange: Exchange) -> str:
    return base_key(exchange.model.key) if exchange.model else "-"


_READERS: Final[dict[By, Callable[[Exchange], str]]] = {
    "identity": _identity,
    "end_user": _end_user,
    "tenant": _tenant,
    "address": _address,
    "model": _model,
}


def key_of(by: Iterable[By], exchange: Exchange) -> str:
    """Return the key of the counter that this caller shares with others.

    Different ones never come out alike: what could be mistaken for a separator is escaped in a value. A caller without
    an identity counts by address, one without a tenant as a tenant of its own, one without an end user by its identity.
    ``model`` needs the body to be read, and so does an end user whom the body names.
    """
    return ",".join([f"{name}={_READERS[name](exchange)}" for name in by])
