"""What all requests of sockets share."""

from collections.abc import Sequence

from proxy.kernel.asgi import Header
from proxy.kernel.errors import Refused
from proxy.websocket.socket_request import SocketRequest


class Plain(SocketRequest):
    def prepare(self) -> bytes:
        return b"body"

    def frame(self, data: bytes) -> bytes:
        return data

    def error(self, status: int, headers: Sequence[Header], body: bytes) -> bytes:
        return b"%d " % status + body


def test_an_error_of_the_proxys_own_is_written_as_its_api_writes_it() -> None:
    request = Plain("a", 4)
    assert (request.lane, request.size, request.named) == ("a", 4, False)
    assert request.answered() == ()
    request.completed(b"")
    assert request.refusal("ollama", Refused(400, "no")) == b'400 {"error":"no"}'
    assert request.refusal("openai", Refused(400, "no")).startswith(b'400 {"error":{"message":"no"')
