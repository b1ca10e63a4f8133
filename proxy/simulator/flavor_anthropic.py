"""Anthropic's ``/v1/messages`` as Ollama's compatibility layer speaks it: named events, each one its own chunk."""

import base64
import binascii
import secrets
from collections.abc import Sequence
from typing import Any, Final

from proxy.simulator import go_json
from proxy.simulator.flavor_ollama import text_of
from proxy.simulator.generation_job import Job, Piece, Usage, pairs_of, read_stop
from proxy.simulator.go_json import ANY, BOOL, FLOAT, INT, POINTER, STRING, STRINGS, quote
from proxy.simulator.refusals import JSON, Refuse

MESSAGES: Final = {
    "model": STRING,
    "max_tokens": INT,
    "messages": "[]anthropic.MessageParam",
    "system": ANY,
    "stream": BOOL,
    "tools": "[]anthropic.Tool",
    "thinking": POINTER + "anthropic.ThinkingConfig",
    "output_config": ANY,
    "stop_sequences": STRINGS,
    "temperature": POINTER + FLOAT,
    "top_p": POINTER + FLOAT,
    "top_k": POINTER + INT,
}
MESSAGE: Final = {"role": STRING, "content": ANY}
TOOL: Final = {"type": STRING, "name": STRING, "description": STRING, "input_schema": ANY}

_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "": ""}


class Messages:
    """``/v1/messages``."""

    flavor: Final = "anthropic"
    content_type: Final = b"text/event-stream"

    def __init__(self, job: Job) -> None:
        self.id = f"msg_{secrets.token_hex(12)}"
        self._job = job
        self._begun = False
        self._open: str | None = None  # kind of the content block that is open
        self._index = 0
        self._called = False

    def piece(self, piece: Piece) -> Sequence[bytes]:
        """Return the events of one token, with the ends and beginnings of blocks that it brings about."""
        events = self._begin()
        if piece.kind != self._open:
            events += self._close()
            events.append(self._start(piece))
            self._open = piece.kind
        if piece.kind == "content":
            delta = b'{"type":"text_delta","text":%b}' % quote(piece.text)
        elif piece.kind == "thinking":
            delta = b'{"type":"thinking_delta","thinking":%b}' % quote(piece.text)
        else:
            self._called = True
            arguments = go_json.dumps(piece.call.arguments if piece.call else {}).decode()
            delta = b'{"type":"input_json_delta","partial_json":%b}' % go_json.dumps(arguments)
        block = b'{"type":"content_block_delta","index":%d,"delta":%b}' % (self._index, delta)
        events.append(b"event: content_block_delta\ndata: %b\n\n" % block)
        if piece.kind == "tool":
            events += self._close()
        return events

    def done(self, usage: Usage) -> Sequence[bytes]:
        """Return the events that end a message."""
        reason = "tool_use" if self._called else _STOP_REASONS[usage.reason]
        counted = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.tokens}
        delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": counted}
        held = self.piece(Piece("content", usage.held)) if usage.held else []
        return [*self._begin(), *held, *self._close(), _event(delta), _event({"type": "message_stop"})]

    def failed(self, message: str) -> Sequence[bytes]:
        """Return nothing: the layer loses an error in mid-stream."""
        return ()

    def whole(self, pieces: list[Piece], usage: Usage) -> tuple[bytes, bytes]:
        """Return (content type, body) of an answer that is not streamed."""
        content: list[dict[str, Any]] = []
        if thinking := text_of(pieces, "thinking"):
            content.append({"type": "thinking", "thinking": thinking})
        if text := text_of(pieces, "content"):
            content.append({"type": "text", "text": text})
        for piece in pieces:
            if call := piece.call:
                self._called = True
                content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})
        reason = "tool_use" if self._called else _STOP_REASONS[usage.reason]
        message = self._message(content, usage.prompt_tokens, usage.tokens, reason)
        return JSON, go_json.dumps(message) + b"\n"

    def _begin(self) -> list[bytes]:
        if self._begun:
            return []
        self._begun = True
        return [_event({"type": "message_start", "message": self._message([], self._job.prompt_tokens, 0)})]

    def _start(self, piece: Piece) -> bytes:
        if piece.kind == "content":
            block: dict[str, Any] = {"type": "text", "text": ""}
        elif piece.kind == "thinking":
            block = {"type": "thinking", "thinking": ""}
        else:
            call = piece.call
            block = {"type": "tool_use", "id": call.id if call else "", "name": call.name if call else "", "input": {}}
        return _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        self._index += 1
        return [_event({"type": "content_block_stop", "index": self._index - 1})]

    def _message(self, content: list[dict[str, Any]], read: int, written: int, reason: str = "") -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self._job.model,
            "content": content,
            **({"stop_reason": reason} if reason else {}),
            "usage": {"input_tokens": read, "output_tokens": written},
        }


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), go_json.dumps(data))


def read_messages(body: bytes) -> tuple[Job, Messages]:
    """Read a request to ``/v1/messages``."""
    fields = go_json.decode(body, MESSAGES, "anthropic.MessagesRequest")
    if not fields["model"]:
        raise Refuse(400, "model is required", early=True)
    if fields["max_tokens"] <= 0:
        raise Refuse(400, "max_tokens is required and must be positive", early=True)
    if not fields["messages"]:
        raise Refuse(400, "messages is required", early=True)
    field = "MessagesRequest.messages"
    messages = [
        go_json.fill(go_json.zero(MESSAGE), pairs_of(item, field, "anthropic.MessageParam"), MESSAGE, field)
        for item in fields["messages"]
    ]
    texts, images = [f"system: {_blocks(fields['system'])[0]}"], 0
    for message in messages:
        text, count = _blocks(message["content"])
        texts.append(f"{message['role']}: {text}")
        images += count
    job = Job(
        model=fields["model"],
        prompt="\n".join(texts),
        stream=fields["stream"],
        limit=fields["max_tokens"],
        think=_think(fields),
        tools=_tools(fields["tools"]),
        images=images,
        stop=read_stop(fields["stop_sequences"]),
        answered_tool=_is_tool_result(messages[-1]["content"]),
        relaxed=True,
    )
    return job, Messages(job)


def _blocks(content: object) -> tuple[str, int]:
    """Return (text, number of images) of a string or of content blocks."""
    if isinstance(content, str):
        return content, 0
    texts, images = [], 0
    for block in content if isinstance(content, list) else ():
        match block:
            case {"type": "text", "text": str(text)} | {"type": "thinking", "thinking": str(text)}:
                texts.append(text)
            case {"type": "image", "source": {"type": "base64", "data": str(data)}}:
                try:
                    base64.b64decode(data, validate=True)
                except (ValueError, binascii.Error):
                    raise Refuse(400, "invalid base64 image data: illegal base64 data", early=True) from None
                images += 1
            case {"type": "image"}:
                raise Refuse(400, "invalid image source type. Only base64 images are supported.", early=True)
            case {"type": "tool_use"} if not block.get("id"):
                raise Refuse(400, "tool_use block missing required 'id' field", early=True)
            case {"type": "tool_result"}:
                text, count = _blocks(block.get("content"))
                texts.append(text)
                images += count
    return "\n".join(texts), images


def _is_tool_result(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


def _tools(items: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    tools = []
    for item in items:
        field = "MessagesRequest.tools"
        tool = go_json.fill(go_json.zero(TOOL), pairs_of(item, field, "anthropic.Tool"), TOOL, field)
        schema = tool["input_schema"]
        tools.append((tool["name"], schema if isinstance(schema, dict) else {}))
    return tools


def _think(fields: dict[str, Any]) -> bool | None:
    thinking, config = fields["thinking"], fields["output_config"]
    match thinking.get("type") if isinstance(thinking, dict) else None:
        case "enabled":
            return True
        case "disabled":
            return False
    effort = config.get("effort") if isinstance(config, dict) else None
    return True if effort in ("low", "medium", "high", "xhigh", "max") else None
