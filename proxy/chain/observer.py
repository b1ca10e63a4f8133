"""The contract of an observer: it is told of every request that passes the frame."""

from typing import Protocol

from proxy.kernel.exchange import Exchange


class Observer(Protocol):
    """An observer of every request. Its methods run in the request's own task, are quick, and never raise."""

    def started(self, exchange: Exchange) -> None:
        """Note that a request came; its caller is not known yet."""

    def answered(self, exchange: Exchange) -> None:
        """Note that the response begins."""

    def finished(self, exchange: Exchange) -> None:
        """Note that the request has ended; its outcome is set."""
