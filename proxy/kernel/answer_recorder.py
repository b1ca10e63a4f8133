"""The contract of a recorder: it sees an answer as it goes to the client, and may let it go on without the client.

The frame knows when a client has left, and everything that is sent to it: heartbeats, errors, and chunks that take the
short way. So a recorder stands there, between the frame and the server, where no plugin could see all of that.
"""

from collections.abc import Callable
from typing import Protocol

from proxy.kernel.asgi import Send
from proxy.kernel.errors import Cancelled


class Recorder(Protocol):
    """Records one answer."""

    def sending(self, send: Send) -> Send:
        """Return what sends a message by `send`, the server's, and records it."""

    def writing(self, write: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
        """Return what writes a chunk by `write`, the server's, and records it, without awaiting anything."""

    def outlives(self) -> bool:
        """Return whether the request goes on, although its client has just left. Asked once; must be quick."""


Stop = Callable[[Cancelled | None], bool]
"""Ends the request: with an error that whoever still reads is told, or, with None, as a client does that leaves.

Returns False where the request has ended or is ending already."""
