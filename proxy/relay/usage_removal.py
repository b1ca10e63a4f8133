"""Remove the token counts from an OpenAI stream whose client did not ask for them, but the plugin `streaming` did.

With ``stream_options.include_usage``, Ollama sends one event more, with ``"choices":[]`` and ``usage``, and puts a
``usage`` of zeros into each event of ``/v1/completions``. Both are removed, so that the client gets what it would have
got without; every other byte stays. The relay reads the counts before they are removed.

This runs for each chunk of these streams only. An event that is not complete waits for its end. So a chunk that ends
within an event reaches the client in two parts; Ollama sends none.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from proxy.kernel import json_bounds
from proxy.kernel.asgi import Message, Send, header, without
from proxy.kernel.exchange import Exchange
from proxy.kernel.json_edit import Text
from proxy.relay.backend_answer import BackendAnswer

LONGEST_EVENT: Final = 64 * 1024
"""Bytes of an incomplete event from which on it is passed on as it comes: an event with token counts is shorter."""

_KEY: Final = b'"usage"'
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_EDGE: Final = 2
"""Bytes at the end of an event in which its blank line may have begun."""
_DATA: Final = re.compile(rb"^data:[ \t]*(\{[^\r\n]*\})[ \t]*\r?$", re.MULTILINE)
_LENGTH: Final = b"content-length"


def usage_removal(exchange: Exchange, answer: BackendAnswer) -> "UsageRemoval | None":
    """Return what removes the token counts from `answer`; None where the client gets it as it came."""
    if not exchange.usage_added or not answer.streams or answer.layout != "sse":
        return None
    return None if header(answer.headers, b"content-encoding") else UsageRemoval()


class UsageRemoval:
    """Removes the token counts from the chunks of one stream."""

    __slots__ = ("_held", "_is_long")

    def __init__(self) -> None:
        self._held = b""
        self._is_long = False  # whether the beginning of the event that goes on was passed on

    def pass_on(self, chunk: bytes) -> bytes:
        """Take the next chunk, and return the bytes that the client gets now; they may be none."""
        if not self._held and _KEY not in chunk and chunk.endswith(b"\n\n"):
            return chunk
        text, start = self._held + chunk, 0
        out = []
        for end in _BLANK_LINE.finditer(text, max(0, len(self._held) - _EDGE)):
            event = text[start : end.end()]
            out.append(event if self._is_long else _without_usage(event))
            start, self._is_long = end.end(), False
        self._held = text[start:]
        if self._is_long or len(self._held) > LONGEST_EVENT:
            self._is_long = True
            out.append(self._held[:-_EDGE])
            self._held = self._held[-_EDGE:]
        return b"".join(out)

    def rest(self) -> bytes:
        """Return the bytes that were held back, as the stream has ended."""
        held, self._held = self._held, b""
        return held

    def writing(self, write: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
        """Return a function that writes a chunk by `write`, without the counts."""

        def write_rest(chunk: bytes) -> bool:
            out = self.pass_on(chunk)
            return not out or write(out)

        return write_rest

    def sending(self, send: Send) -> Send:
        """Return a function that sends the messages of a response by `send`, without the counts.

        The response keeps its Content-Length, corrected, only where its body comes in one message.
        """
        begin: Message | None = None

        async def send_rest(message: Message) -> None:
            nonlocal begin
            if message["type"] == "http.response.start":
                if header(message["headers"], _LENGTH) is None:
                    await send(message)
                else:
                    begin = message
                return
            more = message.get("more_body", False)
            body = self.pass_on(message.get("body", b""))
            if not more:
                body += self.rest()
            if begin is not None:
                begun, begin = begin, None
                headers = without(begun["headers"], frozenset({_LENGTH}))
                await send({**begun, "headers": headers if more else [*headers, (_LENGTH, b"%d" % len(body))]})
            if body or not more:
                await send({**message, "body": body})

        return send_rest


def _without_usage(event: bytes) -> bytes:
    """Return `event` without its token counts; nothing of one that holds nothing else."""
    data = _DATA.search(event) if _KEY in event else None
    if data is None:
        return event
    try:
        record: Any = json_bounds.loads(data[1])
    except ValueError:
        return event
    if not isinstance(record, dict) or "usage" not in record:
        return event
    if record.get("choices") == [] and isinstance(record["usage"], dict):
        return b""
    start, end = _place(data[1])
    offset = data.start(1)
    return event[: offset + start] + event[offset + end :]


def _place(text: bytes) -> tuple[int, int]:
    """Return where the member ``usage`` of the object `text` begins and ends, with one comma."""
    names, spans = zip(*Text(text).members(0), strict=True)
    at = names.index(_KEY) if _KEY in names else None
    if at is None:
        return 0, 0
    if at > 0:
        return spans[at - 1].end, spans[at].end
    return spans[0].key, spans[1].key if len(spans) > 1 else spans[0].end
