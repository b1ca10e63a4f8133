"""One request that came over a socket: what makes its body, and what its answer looks like on the socket."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from proxy.kernel.asgi import Header
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import Flavor, ProxyError


class SocketRequest(ABC):
    """One request.

    Attributes:
        lane: requests of the same lane run one after another.
        named: whether the lane is the request's own, so that no other request may be in it.
        size: bytes that it holds while it waits.
    """

    __slots__ = ("lane", "named", "size")

    def __init__(self, lane: object, size: int, *, named: bool = False) -> None:
        self.lane = lane
        self.named = named
        self.size = size

    @abstractmethod
    def prepare(self) -> bytes | None:
        """Return the body, now that it is this request's turn; None where `answered` has the whole answer.

        Raises Refused.
        """

    def answered(self) -> Sequence[bytes]:
        """Return the frames of a request that no backend answers."""
        return ()

    @abstractmethod
    def frame(self, data: bytes) -> bytes:
        """Return the frame of one line, the data of one event, or a whole answer."""

    @abstractmethod
    def error(self, status: int, headers: Sequence[Header], body: bytes) -> bytes:
        """Return the frame of an answer that is an error."""

    def completed(self, last: bytes) -> None:
        """Note that the answer is complete; `last` is its last line, or the data of its last event."""
        return

    def refusal(self, flavor: Flavor, error: ProxyError) -> bytes:
        """Return the frame of an error of the proxy's own."""
        return self.error(*render(flavor, error))
