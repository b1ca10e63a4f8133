"""Messages that are request bodies: each line, or the data of each event, of the answer is one frame.

``{"id": …}`` in a message is the client's name for the request. It is taken out of the body, and each frame of the
answer is an envelope, ``{"id": …, "data": …}``, with the line or the data as it came: answers have members of their own
(OpenAI's an ``id``), and nothing of them is changed or hidden. ``data: [DONE]`` is ``"data": "[DONE]"`` there.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import orjson

from proxy.kernel.asgi import Header
from proxy.kernel.body_json import read
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import Flavor, Refused, let_go
from proxy.kernel.json_edit import without_members
from proxy.websocket.error_frames import request_error
from proxy.websocket.socket_request import SocketRequest

LONGEST_ID: Final = 128
"""Characters of an id."""

Id = str | int | None


class Desk(Protocol):
    """What a mode has of its session."""

    def start(self, request: SocketRequest) -> None:
        """Run a request when it is its turn; raises Refused where too many wait."""

    def cancel(self, lane: object) -> None:
        """End the request of that lane; do nothing where there is none."""

    def say(self, frame: bytes) -> None:
        """Send one frame."""


class BodyRequest(SocketRequest):
    """A message that is a request body."""

    __slots__ = ("_body", "_head")

    def __init__(self, id: Id, body: bytes) -> None:
        super().__init__(id, len(body), named=id is not None)
        self._body = body
        self._head = b"" if id is None else b'{"id":%b,' % orjson.dumps(id)

    def prepare(self) -> bytes:
        """Return the body, once."""
        body, self._body = self._body, b""
        return body

    def frame(self, data: bytes) -> bytes:
        """Return `data`, in an envelope where the request has an id."""
        if not self._head:
            return data
        if not data.startswith(b"{"):
            data = orjson.dumps(data.decode("utf-8", "replace"))
        return b'%b"data":%b}' % (self._head, data)

    def error(self, status: int, headers: Sequence[Header], body: bytes) -> bytes:
        """Return the error, with the id beside it."""
        return self._head + orjson.dumps(request_error(status, headers, body))[1 if self._head else 0 :]


class RequestMode:
    """Reads the messages of one socket."""

    __slots__ = ("_desk", "_flavor")

    def __init__(self, flavor: Flavor, desk: Desk) -> None:
        self._flavor: Flavor = flavor
        self._desk = desk

    def read(self, message: bytes) -> Callable[[], None]:
        """Return what starts or cancels what a message asks for, or says what is wrong with it.

        To read a long message takes time, so that may be done in a thread; what is returned is for the event loop.
        """
        known: Id = None
        try:
            _, document = read(message)
            if document.keys() == {"cancel"}:
                return partial(self._desk.cancel, _id(document, "cancel"))
            known = _id(document, "id")
            body = message if known is None else without_members(message, ("id",))
        except Refused as refused:
            let_go(refused)
            return partial(self._refuse, known, refused)
        return partial(self._start, BodyRequest(known, body))

    def _start(self, request: BodyRequest) -> None:
        try:
            self._desk.start(request)
        except Refused as refused:
            let_go(refused)
            self._desk.say(request.refusal(self._flavor, refused))

    def _refuse(self, known: Id, refused: Refused) -> None:
        self._desk.say(BodyRequest(known, b"").error(*render(self._flavor, refused)))


def _id(document: dict[str, Any], name: str) -> Id:
    """Return the id in a message, None where there is none; raises Refused."""
    found = document.get(name)
    if found is None and name not in document:
        return None
    if (found.__class__ is str and 0 < len(found) <= LONGEST_ID) or found.__class__ is int:
        return found
    raise Refused(400, f'"{name}" must be a number, or a text of 1 to {LONGEST_ID} characters')
