"""A backend's answer up to its first chunk: nothing goes out to the client before that chunk is here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import httpx

from proxy.kernel.asgi import UNBUFFERED, Header, header, without
from proxy.kernel.errors import (
    BadAnswer,
    Truncated,
    UpstreamAnswer,
    UpstreamTimeout,
    let_go,
)
from proxy.kernel.exchange import Exchange
from proxy.kernel.route import Route
from proxy.pool.blame import Blame
from proxy.pool.lease import Lease
from proxy.relay.answer_end import Format, format_of
from proxy.relay.answer_silence import may_hold_back
from proxy.relay.error_classifier import error_answer
from proxy.relay.hop_headers import downstream_headers
from proxy.upstream.answer import Answer
from proxy.upstream.failures import translated, unbegun
from proxy.upstream.resend import at_once, send_or_resend

ERROR_BODY: Final = 64 * 1024
"""Bytes of the longest error answer that is held back for a better one of another backend; Ollama's are shorter."""

_WORTH_ANOTHER_TRY: Final = frozenset({500, 502, 503, 504})
_BODILESS: Final = frozenset({204, 304})
"""Their Content-Length is not that of a body of theirs (RFC 9110, section 8.6), and uvicorn would wait for a body."""
_LENGTH: Final = frozenset({b"content-length"})

_TOOL_CALL: Final = b'"tool_calls":'
"""The member that holds a tool call in Ollama's own API and in OpenAI's; within a text its quotes would be escaped."""

Read = Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class BackendAnswer:
    """A backend's answer up to its first chunk.

    Attributes:
        status: the status that the backend sent.
        headers: the header fields for the client.
        chunk: the first chunk; empty where the answer has no body.
        read: returns the next chunk, ``b""`` at the end.
        stream: must be closed, however the answer ends.
        layout: the format of the body; "other" where its end is not read.
        holds_back: whether Ollama may hold text of the model back, to see whether it calls a tool.
    """

    status: int
    headers: list[Header]
    chunk: bytes
    read: Read
    stream: httpx.AsyncByteStream
    layout: Format
    holds_back: bool = False

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream that needs a terminator."""
        return self.status == 200 and self.layout in ("ndjson", "sse")

    @property
    def begins_late(self) -> bool:
        """Whether it begins with a tool call, which Ollama held back until it was whole.

        Unknown, and so False, in the APIs of Anthropic and of OpenAI's Responses: their first event is none of text.
        """
        return self.holds_back and _TOOL_CALL in self.chunk


async def open_answer(
    exchange: Exchange, lease: Lease, request: httpx.Request, route: Route, blame: Blame
) -> BackendAnswer:
    """Send `request` to the backend of `lease` and return its answer once the first chunk is here.

    Raises:
        UpstreamAnswer: an error answer for which another backend may have a better one.
        UpstreamError: there is no answer, or none that is accepted.
        TimeoutError: the caller's own time-out ran out.
    """
    try:
        repeat = partial(at_once, exchange, route)
        lost = partial(blame.lost, exchange, lease.backend)
        response = await send_or_resend(lease.backend.transport, request, repeat=repeat, lost=lost)
        stream = cast(httpx.AsyncByteStream, response.stream)
        try:
            with translated(received=True):
                headers = downstream_headers(response.headers.raw)
                read = _reader(stream)
                chunk = await read()
                status = response.status_code
                if status in _BODILESS:
                    headers = without(headers, _LENGTH)
                if not chunk and status == 200 and _must_speak(exchange, route, request, stream):
                    raise BadAnswer("the backend's answer is empty", sent=True, received=True)
                if status in _WORTH_ANOTHER_TRY or (status == 404 and exchange.model is not None):
                    raise await _error_answer(status, headers, chunk, read)
        except BaseException:
            await stream.aclose()
            raise
    except (Truncated, UpstreamTimeout) as error:
        let_go(error)
        raise unbegun(error, cold=lease.cold) from None
    layout = format_of(header(headers, b"content-type"))
    if status == 200 and layout in ("ndjson", "sse") and header(headers, UNBUFFERED[0]) is None:
        headers.append(UNBUFFERED)
    if route.kind not in ("inference", "manage"):
        layout = "other"
    return BackendAnswer(status, headers, chunk, read, stream, layout, may_hold_back(exchange))


def _reader(stream: httpx.AsyncByteStream) -> Read:
    """Return a function that reads the next chunk, ``b""`` at the end: that of our `Answer`, or one around `stream`."""
    if isinstance(stream, Answer):
        return stream.read
    chunks = aiter(stream)

    async def read() -> bytes:
        return await anext(chunks, b"")

    return read


def _must_speak(exchange: Exchange, route: Route, request: httpx.Request, stream: httpx.AsyncByteStream) -> bool:
    """Return whether an empty 200 is an error.

    A generation may be empty: Ollama's guard against repetition ends one whose text is all held back. The policy may
    take it for an error, though, and so it is where it may only be the end of a broken connection.
    """
    if route.kind != "inference" or not route.names_model or request.method == "HEAD":
        return False
    ends_itself = not isinstance(stream, Answer) or stream.framing != "close"
    return not (route.writes and ends_itself) or exchange.unterminated == "error"


async def _error_answer(status: int, headers: list[Header], chunk: bytes, read: Read) -> UpstreamAnswer | BadAnswer:
    held = bytearray()
    while chunk:
        held += chunk
        if len(held) > ERROR_BODY:
            return BadAnswer(f"the backend's error answer is longer than {ERROR_BODY} bytes", sent=True, received=True)
        chunk = await read()
    return error_answer(status, headers, bytes(held))
