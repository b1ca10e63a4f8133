"""Answers of models as a backend writes them, piece by piece, in every API; scripts that send them.

The members are those of an Ollama 0.32.15, without those that nobody reads here.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.relay.answer_end import Format

Write = Callable[[str], bytes]


def _line(**members: Any) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"


def _event(name: str = "", **members: Any) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(members, separators=(",", ":")).encode() + b"\n\n"


def _message(**members: str) -> bytes:
    return _line(model="tiny", created_at="x", message={"role": "assistant", "content": "", **members}, done=False)


def _choice(**members: Any) -> bytes:
    return _event(id="c", object="x", choices=[{"index": 0, **members, "finish_reason": None}])


def _delta(kind: str, name: str, text: str) -> bytes:
    return _event(
        "content_block_delta", type="content_block_delta", index=0, delta={"type": f"{kind}_delta", name: text}
    )


def _response(kind: str, text: str) -> bytes:
    return _event(f"response.{kind}.delta", delta=text, output_index=0, type=f"response.{kind}.delta")


@dataclass(frozen=True)
class Api:
    """How one API writes a piece of text.

    Attributes:
        path: its route.
        layout: the format of its stream.
        write: returns the record of a piece.
        thinks: the piece is a thought.
        between: a record that may stand between two pieces.
    """

    path: str
    layout: Format
    write: Write
    thinks: bool = False
    between: bytes = b""


APIS: Final[Mapping[str, Api]] = {
    "generate": Api("/api/generate", "ndjson", lambda text: _line(model="tiny", response=text, done=False)),
    "generate, thoughts": Api(
        "/api/generate", "ndjson", lambda text: _line(model="tiny", response="", thinking=text, done=False), thinks=True
    ),
    "chat": Api("/api/chat", "ndjson", lambda text: _message(content=text)),
    "chat, thoughts": Api("/api/chat", "ndjson", lambda text: _message(thinking=text), thinks=True),
    "chat completions": Api("/v1/chat/completions", "sse", lambda text: _choice(delta={"content": text})),
    "chat completions, thoughts": Api(
        "/v1/chat/completions", "sse", lambda text: _choice(delta={"content": "", "reasoning": text}), thinks=True
    ),
    "completions": Api("/v1/completions", "sse", lambda text: _choice(text=text)),
    "messages": Api(
        "/v1/messages", "sse", lambda text: _delta("text", "text", text), between=_event("ping", type="ping")
    ),
    "messages, thoughts": Api("/v1/messages", "sse", lambda text: _delta("thinking", "thinking", text), thinks=True),
    "responses": Api(
        "/v1/responses",
        "sse",
        lambda text: _response("output_text", text),
        between=_event("response.in_progress", type="response.in_progress", response={"error": None}),
    ),
    "responses, thoughts": Api(
        "/v1/responses", "sse", lambda text: _response("reasoning_summary_text", text), thinks=True
    ),
}
CONTENT_TYPES: Final[Mapping[Format, bytes]] = {
    "ndjson": b"application/x-ndjson",
    "sse": b"text/event-stream",
    "json": b"application/json",
}


def ask_for(path: str, *, stream: bool = True, **more: Any) -> dict[str, Any]:
    """Return a request body that any of the routes takes."""
    said = [{"role": "user", "content": "hi"}]
    body = {"model": "llama3.2", "messages": said, "prompt": "hi", "input": "hi", "max_tokens": 99, "stream": stream}
    return body | more


def chunked(layout: Format, chunks: Iterable[bytes], *, clean: bool = True) -> tuple[bytes, ...]:
    """Return the parts of a script: a 200 with these chunks, and the last chunk where it ends `clean`."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % CONTENT_TYPES[layout]
    return head, *(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks), *([b"0\r\n\r\n"] if clean else [])
