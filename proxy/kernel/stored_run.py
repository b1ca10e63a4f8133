"""What the run of an entry of the journal tells the chain that it passes: which entry it is, and how it may wait."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.kernel.asgi import Scope

RUN: Final = "ollama_proxy.stored_run"
"""The key of a scope at which the run is; no client can set it."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """The run of an entry, in the scope of its request.

    Attributes:
        id: the id of the entry.
        priority: its priority in the queue, in place of that of the caller's policy.
        wait: seconds that it may wait in the queue; then it gives way to other entries, and comes again later.
        placed: to be called when a backend was chosen for it.
    """

    id: str
    priority: int
    wait: float
    placed: Callable[[], None]


def stored_run(scope: Scope) -> StoredRun | None:
    """Return the run that a request is; None for a request that a client sends now."""
    run: StoredRun | None = scope.get(RUN)
    return run
