"""The answer to one request of a socket, from its first byte to the frame that ends it."""

from collections.abc import Callable

from proxy.kernel.asgi import Header
from proxy.kernel.errors import Flavor, ProxyError, Truncated
from proxy.kernel.inner_request import InnerClient
from proxy.kernel.websocket import Socket
from proxy.websocket.answer_frames import Cutter, TooLong, Whole, cutter_for
from proxy.websocket.error_frames import is_error
from proxy.websocket.socket_request import SocketRequest


class Answer:
    """Sends an answer as frames; `take` runs for each of its chunks.

    Args:
        request: the request.
        body: its body.
        socket: sends the frames.
        longest: bytes of a frame.

    Attributes:
        client: the client of the inner request.
        last: the last text that was sent; empty where none was.
    """

    __slots__ = ("_cutter", "_headers", "_refused", "_request", "_send", "_too_long", "_whole", "client", "last")

    def __init__(self, request: SocketRequest, body: bytes, socket: Socket, longest: int) -> None:
        self._request = request
        self._send: Callable[[bytes], bool] = socket.send
        self._headers: list[Header] = []
        self._refused = self._too_long = False
        self._cutter: Cutter = Whole(self._emit, longest)
        self._whole = longest
        self.last = b""
        self.client = InnerClient(body, begin=self._begin, take=self._take, room=socket.room)

    def _begin(self, status: int, headers: list[Header]) -> None:
        self._headers = headers
        self._refused = status >= 400
        if not self._refused:
            self._cutter = cutter_for(headers, self._emit, self._whole)

    def _take(self, chunk: bytes) -> bool:
        try:
            return self._cutter.take(chunk)
        except TooLong:
            self._too_long = True
            self.client.leave()
            return True

    def _emit(self, data: bytes) -> bool:
        self.last = data
        return True if self._refused else self._send(self._request.frame(data))

    def finish(self, flavor: Flavor, reason: ProxyError | None) -> None:
        """Send what is left, and an error where the answer did not end as it should.

        Args:
            flavor: the form of the error.
            reason: why the request was ended before its answer was complete, None where it was not.
        """
        if self.client.complete:
            self._cutter.end()
        if self.client.complete and self._refused:
            self._send(self._request.error(self.client.status or 500, self._headers, self.last))
        elif self.client.complete and self.last:
            self._request.completed(self.last)
        elif not is_error(self.last):  # an error that was the last line of the answer has gone out as it came
            self._send(self._request.refusal(flavor, reason or self._broken()))

    def _broken(self) -> ProxyError:
        if self._too_long:
            return Truncated("a line of the answer is longer than a frame may be (server.body.each)")
        return Truncated("the answer broke off, or was empty")

    def let_go(self) -> None:
        """Drop what refers back to the answer, which would keep it in memory."""
        del self._cutter, self.client
