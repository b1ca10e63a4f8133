"""OpenAI's Responses API over WebSocket, as its SDK, the Agents SDK and Codex speak it.

A message is an event ``response.create``: the body of a request with ``type``, and perhaps ``stream_id``, which names
the lane of the socket: requests of one lane run one after another, and each event of their answers has the name.
``previous_response_id`` is resolved from the conversations that this socket remembers, as Ollama stores none.
``generate: false`` only remembers what it says.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import orjson

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header
from proxy.kernel.body_json import check, read
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import Flavor, Refused, let_go
from proxy.kernel.json_edit import edit, without_members
from proxy.kernel.response_items import INPUT, PREVIOUS, items_of, merged_input
from proxy.websocket.error_frames import responses_error
from proxy.websocket.request_mode import LONGEST_ID, Desk
from proxy.websocket.response_memory import ResponseMemory
from proxy.websocket.socket_request import SocketRequest

_FLAVOR: Final[Flavor] = "openai"
_CREATE: Final = "response.create"
_OF_THE_SOCKET: Final = ("type", "stream_id", "generate", PREVIOUS)
"""Members of an event that the request of a backend does not have."""
_ENDS: Final = ("response.completed", "response.incomplete")
_ERROR: Final = b'{"error"'
"""The beginning of the record that ends a stream over HTTP which breaks off."""


class ResponseRequest(SocketRequest):
    """An event ``response.create``.

    Args:
        lane: its ``stream_id``; None where it has none.
        message: the event as it came.
        memory: the conversations of the socket.
    """

    __slots__ = ("_answer", "_body", "_head", "_memory", "_prepared", "_previous", "_said")

    def __init__(self, lane: str | None, message: bytes, memory: ResponseMemory) -> None:
        document = orjson.loads(message)
        self._previous = document.get(PREVIOUS)
        left_out = _OF_THE_SOCKET if self._previous is None else (*_OF_THE_SOCKET, INPUT)
        self._body = edit(without_members(message, left_out), {"stream": True})
        self._said = orjson.dumps(items_of(document.get(INPUT)))
        """What the conversation consists of, a list in JSON."""
        self._prepared = _response(document) if document.get("generate") is False else None
        super().__init__(lane, len(self._body) + len(self._said))
        self._memory = memory
        self._answer: tuple[bytes, ...] = ()
        self._head = _head(lane)

    def prepare(self) -> bytes | None:
        """Return the body of the request, with the conversation that it goes on from as a part of its input."""
        body, self._body = self._body, b""
        previous = self._previous
        if previous is not None:
            before = self._memory.get(previous) if isinstance(previous, str) else None
            if before is None:
                raise _not_found(previous)
            self._said = _joined(before, self._said)
        if self._prepared is not None:
            self._remember_prepared(self._prepared)
            return None
        return body if previous is None else edit(body, {INPUT: orjson.Fragment(self._said)})

    def _remember_prepared(self, response: dict[str, Any]) -> None:
        """Remember what was said, and answer with a response without any output."""
        self._memory.put(response["id"], self._said)
        states = (("response.created", "in_progress"), ("response.completed", "completed"))
        self._answer = tuple(
            self.frame(
                orjson.dumps({"type": kind, "sequence_number": number, "response": {**response, "status": state}})
            )
            for number, (kind, state) in enumerate(states)
        )

    def answered(self) -> Sequence[bytes]:
        """Return the events of a request that generates nothing."""
        return self._answer

    def frame(self, data: bytes) -> bytes:
        """Return an event, with the ``stream_id`` of the request."""
        if data.startswith(_ERROR):
            return self.error(502, (), data)
        return self._head + data[1:] if self._head else data

    def error(self, status: int, headers: Sequence[Header], body: bytes) -> bytes:
        """Return an event ``error``."""
        return _error(self._head, status, headers, body)

    def completed(self, last: bytes) -> None:
        """Remember the conversation, with the response that is complete."""
        said, self._said = self._said, b""
        try:
            event = orjson.loads(last)
            response = event.get("response") if isinstance(event, dict) and event.get("type") in _ENDS else None
            if isinstance(response, dict) and isinstance(response.get("id"), str):
                output = orjson.dumps(merged_input(None, response.get("output") or (), None))
                self._memory.put(response["id"], _joined(said, output))
        except (ValueError, TypeError):  # no JSON, or nested deeper than is written
            return


class ResponseMode:
    """Reads the messages of one socket."""

    __slots__ = ("_desk", "_memory")

    def __init__(self, desk: Desk, memory: ResponseMemory) -> None:
        self._desk = desk
        self._memory = memory

    def read(self, message: bytes) -> Callable[[], None]:
        """Return what starts the response that an event asks for, or says what is wrong with it.

        See `RequestMode.read`: this may be done in a thread.
        """
        lane: str | None = None
        try:
            text, event = read(message)
            lane = _lane(event)
            check(text, event)
            _check(event)
            return partial(self._start, ResponseRequest(lane, message, self._memory))
        except Refused as refused:
            let_go(refused)
            return partial(self._refuse, lane, refused)

    def _start(self, request: ResponseRequest) -> None:
        try:
            self._desk.start(request)
        except Refused as refused:
            let_go(refused)
            self._desk.say(request.refusal(_FLAVOR, refused))

    def _refuse(self, lane: str | None, refused: Refused) -> None:
        self._desk.say(_error(_head(lane), *render(_FLAVOR, refused)))


def _head(lane: str | None) -> bytes:
    """Return the beginning of each event of a lane."""
    return b"" if lane is None else b'{"stream_id":%b,' % orjson.dumps(lane)


def _error(head: bytes, status: int, headers: Sequence[Header], body: bytes) -> bytes:
    return head + orjson.dumps(responses_error(status, headers, body))[1 if head else 0 :]


def _joined(*lists: bytes) -> bytes:
    """Return one list of the elements of several, all in JSON without spaces."""
    return b"[" + b",".join(text[1:-1] for text in lists if len(text) > 2) + b"]"


def _lane(event: dict[str, Any]) -> str | None:
    lane = event.get("stream_id")
    if lane is None or (isinstance(lane, str) and 0 < len(lane) <= LONGEST_ID):
        return lane
    raise Refused(400, f"stream_id must be a text of 1 to {LONGEST_ID} characters")


def _check(event: dict[str, Any]) -> None:
    """Refuse an event that is no ``response.create``, or asks for what a socket does not have."""
    kind = event.get("type")
    if kind != _CREATE:
        shown = f'"{kind[:64]}"' if isinstance(kind, str) else "none"
        raise Refused(400, f"the event's type must be {_CREATE}; it is {shown}, and Ollama knows nothing of the kind")
    if event.get("background"):
        raise Refused(400, "background is not supported over WebSocket; send POST /v1/responses")


def _not_found(previous: object) -> Refused:
    shown = f"'{previous[:64]}'" if isinstance(previous, str) else "of that kind"
    return Refused(
        400,
        f"Previous response with id {shown} not found on this connection; send the whole conversation as input",
        code=codes.PREVIOUS_RESPONSE_NOT_FOUND,
    )


def _response(document: dict[str, Any]) -> dict[str, Any]:
    """Return a response that no backend made: nothing was to be generated."""
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": int(time.time()),
        "model": document.get("model") or "",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": document.get("tool_choice") or "auto",
        "tools": document.get("tools") or [],
        "instructions": document.get("instructions"),
        "metadata": document.get("metadata") or {},
        "previous_response_id": document.get(PREVIOUS),
        "error": None,
        "incomplete_details": None,
        "usage": {
            "input_tokens": 0,
            "output_tokens": 0,
            "total_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
