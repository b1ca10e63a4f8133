"""A worker's end of what the workers say to each other; it implements `Peers`."""

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from proxy.kernel.peers import Answer, Peers, Reply
from proxy.workers.channel import Channel, ChannelError

PATIENCE: Final = 5.0
"""Seconds that a worker waits for what the parent collects from the others, which has less time for each."""


class Member(Peers):
    """One of several workers, by its channel to the parent.

    Args:
        sock: connected to the parent.

    Attributes:
        channel: to the parent.
        hears: takes what the parent tells, by name.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._replies: dict[str, Reply] = {}
        self._hear: Callable[[bytes], None] | None = None
        self.hears: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "watched": self._note_watched,
            "event": self._note_event,
        }
        self.channel = Channel(sock, self._replies, self.hears)

    def on(self, question: str, reply: Reply) -> None:
        """See `Peers.on`."""
        self._replies[question] = reply

    async def ask(self, question: str, **about: Any) -> list[Answer]:
        """See `Peers.ask`."""
        try:
            said = await self.channel.ask("all", {"question": question, "about": about}, timeout=PATIENCE)
        except (ChannelError, TimeoutError):
            # What the others would have sent came as JSON; so this does, too.
            own = orjson.loads(orjson.dumps(await self._replies[question](about)))
            return [Answer(self.number, own, mine=True)]
        return [Answer(number, answer, mine=number == self.number) for number, answer in said]

    def watch(self, hear: Callable[[bytes], None] | None) -> None:
        """See `Peers.watch`."""
        self._hear = hear
        self.channel.tell("watch", on=hear is not None)

    def tell(self, event: bytes) -> None:
        """See `Peers.tell`."""
        self.channel.mention("event", text=event.decode())

    def _note_watched(self, about: Mapping[str, Any]) -> None:
        self.watched = about["on"]

    def _note_event(self, about: Mapping[str, Any]) -> None:
        if self._hear is not None:
            self._hear(about["text"].encode())

    def __repr__(self) -> str:
        return f"<Member {self.number}{', watched' if self.watched else ''}>"
