"""The peers of a proxy that is one process: itself."""

from collections.abc import Callable
from typing import Any

from proxy.kernel.peers import Answer, Peers, Reply


class Alone(Peers):
    """Answers its own questions; nobody hears what it tells."""

    def __init__(self) -> None:
        self._replies: dict[str, Reply] = {}

    def on(self, question: str, reply: Reply) -> None:
        """See `Peers.on`."""
        self._replies[question] = reply

    async def ask(self, question: str, **about: Any) -> list[Answer]:
        """See `Peers.ask`. Raises what `reply` raises."""
        return [Answer(0, await self._replies[question](about), mine=True)]

    def watch(self, hear: Callable[[bytes], None] | None) -> None:
        """See `Peers.watch`."""

    def tell(self, event: bytes) -> None:
        """See `Peers.tell`."""

    def __repr__(self) -> str:
        return "<Alone>"
