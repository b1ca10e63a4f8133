"""The contract of the pool of backends towards plugins."""

from typing import Protocol, runtime_checkable

from proxy.kernel.exchange import Exchange
from proxy.kernel.model_names import ModelName


@runtime_checkable
class Backends(Protocol):
    """Answers what a plugin may know of the pool."""

    def untried(self, exchange: Exchange, *, ejected: bool = False) -> bool:
        """Return whether a usable backend is left that this request was not sent to, or that came back since it was.

        With `ejected`, one that is ejected and has room counts too.
        """

    async def comeback(self, exchange: Exchange, seconds: float) -> bool:
        """Wait until `untried` is true, ejected backends included, for `seconds` at most; return whether it is.

        Returns False at once where there is no hope: no backend that has the model went away within the last `seconds`.
        """

    def serves(self, exchange: Exchange, model: ModelName | None = None) -> bool:
        """Return whether a usable backend has, or may have, the model of this request, or `model` in its place."""
