"""A run of a stored request: what its scope says beside the caller, and who sent a request that is stored."""

from dataclasses import dataclass
from typing import Final

from proxy.kernel.asgi import Scope
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import StoredCaller

RUN: Final = "ollama_proxy.stored_run"
"""The key of a scope at which the run is; no client can set it."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run of an entry of the journal.

    Attributes:
        id: the id of the entry.
        priority: the class in which it waits for a slot.
    """

    id: str
    priority: int


def stored_run(scope: Scope) -> StoredRun | None:
    """Return the run that a request belongs to; None of a request that a client sends now."""
    run: StoredRun | None = scope.get(RUN)
    return run


def caller_of(exchange: Exchange) -> StoredCaller:
    """Return who sent a request, to be stored with it."""
    return StoredCaller(
        identity=exchange.identity,
        tenant=exchange.tenant,
        policy=exchange.policy,
        claims=dict(exchange.claims),
        method=exchange.auth_method,
        client=exchange.client,
        end_user=exchange.end_user,
    )
