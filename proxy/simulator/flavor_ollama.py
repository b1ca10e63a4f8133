"""Ollama's own ``/api/chat`` and ``/api/generate``: NDJSON, one object per chunk."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, Final

from proxy.simulator import go_json, made_up_text
from proxy.simulator.generation_job import (
    Job,
    Piece,
    ToolCall,
    Usage,
    pairs_of,
    read_keep_alive,
    read_stop,
    read_think,
    read_tools,
    timestamp,
)
from proxy.simulator.go_json import ANY, BOOL, INT, INTS, MAP, POINTER, STRING, quote
from proxy.simulator.refusals import JSON_UTF8, Refuse
from proxy.simulator.templates import parse_error

IMAGES: Final = "[]api.ImageData"
_COMMON: Final = {
    "model": STRING,
    "stream": POINTER + BOOL,
    "format": ANY,
    "keep_alive": ANY,
    "options": MAP,
    "think": ANY,
    "runner": STRING,
    "logprobs": BOOL,
    "top_logprobs": INT,
    "truncate": POINTER + BOOL,
    "shift": POINTER + BOOL,
}
CHAT: Final = {**_COMMON, "messages": "[]api.Message", "tools": "[]api.Tools"}
GENERATE: Final = {
    **_COMMON,
    "prompt": STRING,
    "suffix": STRING,
    "system": STRING,
    "template": STRING,
    "context": INTS,
    "raw": BOOL,
    "images": IMAGES,
}
MESSAGE: Final = {
    "role": STRING,
    "content": STRING,
    "thinking": STRING,
    "images": IMAGES,
    "tool_calls": "[]api.ToolCall",
    "tool_name": STRING,
    "tool_call_id": STRING,
}


class Native:
    """The part that both endpoints share: the record around a text."""

    flavor: Final = "ollama"
    content_type: Final = b"application/x-ndjson"
    _nothing: bytes  # a whole answer without a single record: the struct as Go makes it

    def __init__(self, job: Job) -> None:
        self._open = b'{"model":' + quote(job.model) + b',"created_at":"'
        self._logprobs = job.logprobs

    def piece(self, piece: Piece) -> Sequence[bytes]:
        """Return the record of one token."""
        body = self._said(piece)
        more = self._with_logprobs([piece]) if self._logprobs is not None else b""
        return (b'%b%b",%b,"done":false%b}\n' % (self._open, timestamp().encode(), body, more),)

    def done(self, usage: Usage) -> Sequence[bytes]:
        """Return the final record."""
        return (self._final(self._said(Piece("content", usage.held)), usage, b"") + b"\n",)

    def failed(self, message: str) -> Sequence[bytes]:
        """Return the record of an error in mid-stream."""
        return (go_json.dumps({"error": message}) + b"\n",)

    def whole(self, pieces: list[Piece], usage: Usage) -> tuple[bytes, bytes]:
        """Return (content type, body) of an answer that is not streamed."""
        if not usage.reason and not pieces:
            return JSON_UTF8, self._nothing
        logprobs = self._with_logprobs(pieces) if self._logprobs is not None and pieces else b""
        return JSON_UTF8, self._final(self._gathered(pieces), usage, logprobs)

    def _said(self, piece: Piece) -> bytes:
        """Return the fields that carry one token."""
        raise NotImplementedError

    def _gathered(self, pieces: list[Piece]) -> bytes:
        """Return the fields that carry a whole reply."""
        raise NotImplementedError

    def _with_logprobs(self, pieces: list[Piece]) -> bytes:
        found = [made_up_text.logprobs(piece.text, self._logprobs or 0) for piece in pieces]
        return b',"logprobs":' + go_json.dumps(found)

    def _final(self, body: bytes, usage: Usage, logprobs: bytes) -> bytes:
        metrics = {
            "total_duration": usage.total,
            "load_duration": usage.load,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": usage.prompt,
            "eval_count": usage.tokens,
            "eval_duration": usage.eval,
        }
        # Go leaves out zero values; a load or unload has no metrics at all, nor has what the guard ended.
        end: dict[str, Any] = {"done": True, "done_reason": usage.reason} if usage.reason else {"done": False}
        if usage.context:
            end["context"] = usage.context
        measured = go_json.dumps({name: value for name, value in metrics.items() if value})[1:-1]
        parts = [go_json.dumps(end)[1:-1], *self._ordered(measured, logprobs.removeprefix(b","))]
        return b'%b%b",%b,%b}' % (self._open, timestamp().encode(), body, b",".join(filter(None, parts)))

    def _ordered(self, measured: bytes, logprobs: bytes) -> tuple[bytes, ...]:
        """Return both in the order of the Go struct."""
        return measured, logprobs


class Chat(Native):
    """``/api/chat``."""

    _nothing = b'{"model":"","created_at":"0001-01-01T00:00:00Z","message":{"role":"","content":""},"done":false}'

    def _ordered(self, measured: bytes, logprobs: bytes) -> tuple[bytes, ...]:
        return logprobs, measured

    def _said(self, piece: Piece) -> bytes:
        if piece.kind == "content":
            return b'"message":{"role":"assistant","content":%b}' % quote(piece.text)
        if piece.kind == "thinking":
            return b'"message":{"role":"assistant","content":"","thinking":%b}' % quote(piece.text)
        return self._message("", "", [piece.call] if piece.call else [])

    def _gathered(self, pieces: list[Piece]) -> bytes:
        return self._message(
            text_of(pieces, "content"), text_of(pieces, "thinking"), [piece.call for piece in pieces if piece.call]
        )

    def _message(self, content: str, thinking: str, calls: list[ToolCall]) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "function": {"index": index, "name": call.name, "arguments": call.arguments}}
                for index, call in enumerate(calls)
            ]
        return b'"message":' + go_json.dumps(message)


class Generate(Native):
    """``/api/generate``."""

    _nothing = b'{"model":"","created_at":"0001-01-01T00:00:00Z","response":"","done":false}'

    def _said(self, piece: Piece) -> bytes:
        if piece.kind == "thinking":
            return b'"response":"","thinking":%b' % quote(piece.text)
        return b'"response":%b' % quote(piece.text)

    def _gathered(self, pieces: list[Piece]) -> bytes:
        thinking = text_of(pieces, "thinking")
        response = b'"response":' + go_json.dumps(text_of(pieces, "content"))
        return response + (b',"thinking":' + go_json.dumps(thinking) if thinking else b"")


def text_of(pieces: list[Piece], kind: str) -> str:
    """Return the pieces of one kind as one text."""
    return "".join(piece.text for piece in pieces if piece.kind == kind)


def read_chat(body: bytes) -> tuple[Job, Chat]:
    """Read a request to ``/api/chat``."""
    fields = go_json.decode(body, CHAT, "api.ChatRequest")
    # Ollama reads a message by itself, into a type of another name.
    messages = [
        go_json.fill(go_json.zero(MESSAGE), pairs_of(item, "", "api.Alias"), MESSAGE, "Alias")
        for item in fields["messages"]
    ]
    job = _job(fields, "\n".join(f"{message['role']}: {message['content']}" for message in messages))
    job.empty = not messages
    job.tools = read_tools(fields["tools"], "ChatRequest.tools")
    job.images = sum(count_images(message["images"], "Alias.images") for message in messages)
    job.answered_tool = bool(messages) and messages[-1]["role"] == "tool"
    return job, Chat(job)


def read_generate(body: bytes) -> tuple[Job, Generate]:
    """Read a request to ``/api/generate``."""
    fields = go_json.decode(body, GENERATE, "api.GenerateRequest")
    if fields["raw"] and (fields["template"] or fields["system"] or fields["context"]):
        raise Refuse(400, "raw mode does not support template, system, or context")
    if error := parse_error(fields["template"]):
        raise Refuse(500, error)
    job = _job(fields, "\n".join(filter(None, (fields["system"], fields["prompt"], fields["suffix"]))))
    job.empty = not fields["prompt"]
    job.images = count_images(fields["images"], "GenerateRequest.images")
    job.suffix = fields["suffix"]
    job.keeps_context = not fields["raw"]
    job.context = len(fields["context"])
    return job, Generate(job)


def _job(fields: dict[str, Any], prompt: str) -> Job:
    if not 0 <= fields["top_logprobs"] <= 20:
        raise Refuse(400, "top_logprobs must be between 0 and 20")
    limit = fields["options"].get("num_predict")
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        limit = None  # refused with the other options, once the model is found
    return Job(
        model=fields["model"],
        prompt=prompt,
        stream=fields["stream"] is not False,
        limit=None if limit is None else int(limit),
        options=fields["options"],
        keep_alive=read_keep_alive(fields["keep_alive"]),
        think=read_think(fields["think"]),
        format=fields["format"],
        stop=read_stop(fields["options"].get("stop")),
        logprobs=fields["top_logprobs"] if fields["logprobs"] else None,
        truncate=fields["truncate"] is not False,
        shift=fields["shift"] is not False,
    )


def count_images(images: list[Any], field: str) -> int:
    """Return how many images there are in `field`, each of which has to be base64."""
    for image in images:
        if not isinstance(image, str):
            kind = go_json.kind_of(image)
            raise go_json.BadJSON(f"json: cannot unmarshal {kind} into Go struct field {field} of type api.ImageData")
        try:
            base64.b64decode(image, validate=True)
        except (ValueError, binascii.Error):
            raise Refuse(400, f"illegal base64 data at input byte {_illegal(image)}") from None
    return len(images)


def _illegal(text: str) -> int:
    """Return where Go's decoder of base64 gives up: at a character that is none of it, or where one is missing."""
    found = re.search(r"[^A-Za-z0-9+/\r\n]", text.rstrip("="))
    return found.start() if found else len(text) - len(text) % 4
