"""OpenAI's ``/v1/chat/completions`` and ``/v1/completions`` as Ollama's compatibility layer speaks them."""

import base64
import binascii
import time
from collections.abc import Sequence
from typing import Any, Final

from proxy.simulator import go_json, made_up_text
from proxy.simulator.flavor_ollama import text_of
from proxy.simulator.generation_job import Job, Piece, ToolCall, Usage, pairs_of, read_stop, read_tools
from proxy.simulator.go_json import ANY, BOOL, FLOAT, FLOAT32, INT, POINTER, STRING, quote
from proxy.simulator.refusals import JSON, Refuse

_COMMON: Final = {
    "model": STRING,
    "stream": BOOL,
    "stream_options": POINTER + "openai.StreamOptions",
    "max_tokens": POINTER + INT,
    "seed": POINTER + INT,
    "stop": ANY,
}
CHAT: Final = {
    **_COMMON,
    "messages": "[]openai.Message",
    "tools": "[]api.Tool",
    "response_format": POINTER + "openai.ResponseFormat",
    "reasoning": POINTER + "openai.Reasoning",
    "reasoning_effort": POINTER + STRING,
    "logprobs": POINTER + BOOL,
    "top_logprobs": INT,
    "temperature": POINTER + FLOAT,
    "top_p": POINTER + FLOAT,
    "frequency_penalty": POINTER + FLOAT,
    "presence_penalty": POINTER + FLOAT,
}
COMPLETION: Final = {
    **_COMMON,
    "prompt": STRING,
    "suffix": STRING,
    "logprobs": POINTER + INT,
    "temperature": POINTER + FLOAT32,
    "top_p": FLOAT32,
    "frequency_penalty": FLOAT32,
    "presence_penalty": FLOAT32,
}
MESSAGE: Final = {
    "role": STRING,
    "content": ANY,
    "reasoning": STRING,
    "tool_calls": "[]openai.ToolCall",
    "name": STRING,
    "tool_call_id": STRING,
}
IMAGE_TYPES: Final = ("image/jpeg", "image/jpg", "image/png", "image/webp", "")


class OpenAI:
    """The part that both endpoints share. The end of a stream goes out as one chunk, because Ollama flushes once."""

    flavor: Final = "openai"
    content_type: Final = b"text/event-stream"
    prefix = ""
    kind = ""

    def __init__(self, job: Job, *, usage: bool) -> None:
        self._created = int(time.time())
        self._usage = usage
        self.id = f"{self.prefix}-{made_up_text.dice(self._created, job.prompt).randrange(999)}"
        self._model = job.model

    def whole(self, pieces: list[Piece], usage: Usage) -> tuple[bytes, bytes]:
        """Return (content type, body) of an answer that is not streamed."""
        if not usage.reason and not pieces:
            self._model = ""
        body = self._whole_object(self.kind.removesuffix(".chunk"), [self._choice(pieces, usage)])
        return JSON, go_json.dumps({**body, "usage": usage_of(usage)}) + b"\n"

    def _choice(self, pieces: list[Piece], usage: Usage) -> dict[str, Any]:
        """Return the one choice of a whole answer."""
        raise NotImplementedError

    def _whole_object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return an answer that is not streamed, without its usage."""
        return {
            "id": self.id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "fp_ollama",
            "choices": choices,
        }

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a record of a stream, without usage."""
        return self._whole_object(kind, choices)

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
        body = self._object(self.kind, choices)
        return b"data: %b\n\n" % go_json.dumps(body if usage is None else {**body, "usage": usage})


class Chat(OpenAI):
    """``/v1/chat/completions``."""

    prefix = "chatcmpl"
    kind = "chat.completion.chunk"

    def __init__(self, job: Job, *, usage: bool) -> None:
        super().__init__(job, usage=usage)
        self._role = b'"role":"assistant",'
        self._called = False
        self._logprobs = job.logprobs
        choices = b'"choices":[{"index":0,"delta":{'
        self._open = b"data: " + go_json.dumps(self._object(self.kind, []))[:-1].replace(b'"choices":[]', choices)

    def piece(self, piece: Piece) -> Sequence[bytes]:
        """Return the event of one token; only the first names the role."""
        role, self._role = self._role, b""
        if piece.kind == "content":
            delta = b'"content":%b' % quote(piece.text)
        elif piece.kind == "thinking":
            delta = b'"content":"","reasoning":%b' % quote(piece.text)
        else:
            self._called = True
            delta = go_json.dumps({"content": "", "tool_calls": tool_calls([piece.call] if piece.call else [])})[1:-1]
        more = b""
        if self._logprobs is not None:
            more = b',"logprobs":' + go_json.dumps(_logprobs([piece], self._logprobs))
        return (b'%b%b%b},"finish_reason":null%b}]}\n\n' % (self._open, role, delta, more),)

    def done(self, usage: Usage) -> Sequence[bytes]:
        """Return the finish, the usage if it was asked for, and ``[DONE]``, as one chunk."""
        reason = "tool_calls" if self._called else usage.reason
        delta = {"content": usage.held} if usage.held else {}
        end = self._event([{"index": 0, "delta": delta, "finish_reason": reason}])
        counted = self._event([], usage_of(usage)) if self._usage else b""
        return (end + counted + b"data: [DONE]\n\n",)

    def failed(self, message: str) -> Sequence[bytes]:
        """Return what becomes of an error: an empty delta of no model, since the layer reads it as one."""
        self._model = ""
        return (self._event([{"index": 0, "delta": {"content": ""}, "finish_reason": None}]),)

    def _choice(self, pieces: list[Piece], usage: Usage) -> dict[str, Any]:
        calls = [piece.call for piece in pieces if piece.call]
        said = bool(usage.reason or pieces)  # else the struct as Go makes it
        message: dict[str, Any] = {"role": "assistant" if said else "", "content": text_of(pieces, "content")}
        if thinking := text_of(pieces, "thinking"):
            message["reasoning"] = thinking
        if calls:
            message["tool_calls"] = tool_calls(calls)
        reason = "tool_calls" if calls else usage.reason or None
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return choice if self._logprobs is None else {**choice, "logprobs": _logprobs(pieces, self._logprobs)}


class Completion(OpenAI):
    """``/v1/completions``."""

    prefix = "cmpl"
    kind = "text_completion"

    def piece(self, piece: Piece) -> Sequence[bytes]:
        """Return the event of one token; each one has a usage of zeros when usage was asked for."""
        zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0} if self._usage else None
        text = piece.text if piece.kind == "content" else ""
        return (self._event([{"text": text, "index": 0, "finish_reason": None}], zeros),)

    def done(self, usage: Usage) -> Sequence[bytes]:
        """Return the finish, the usage if it was asked for, and ``[DONE]``, as one chunk."""
        zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0} if self._usage else None
        end = self._event([{"text": "", "index": 0, "finish_reason": usage.reason}], zeros)
        counted = self._event([], usage_of(usage)) if self._usage else b""
        return (end + counted + b"data: [DONE]\n\n",)

    def failed(self, message: str) -> Sequence[bytes]:
        """Return what becomes of an error: an empty text of no model."""
        self._model = ""
        return self.piece(Piece("content"))

    def _choice(self, pieces: list[Piece], usage: Usage) -> dict[str, Any]:
        return {"text": text_of(pieces, "content"), "index": 0, "finish_reason": usage.reason or None}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a record of a stream, where the choices stand before the model."""
        whole = self._whole_object(kind, choices)
        return {name: whole[name] for name in ("id", "object", "created", "choices", "model", "system_fingerprint")}


def usage_of(usage: Usage) -> dict[str, int]:
    """Return OpenAI's usage."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.tokens,
        "total_tokens": usage.prompt_tokens + usage.tokens,
    }


def _logprobs(pieces: list[Piece], others: int) -> dict[str, Any]:
    return {"content": [made_up_text.logprobs(piece.text, others) for piece in pieces]}


def tool_calls(calls: list[ToolCall]) -> list[dict[str, Any]]:
    """Return tool calls in OpenAI's form, where the arguments are JSON in a string."""
    return [
        {
            "id": call.id,
            "index": index,
            "type": "function",
            "function": {"name": call.name, "arguments": go_json.dumps(call.arguments).decode()},
        }
        for index, call in enumerate(calls)
    ]


def read_chat(body: bytes) -> tuple[Job, Chat]:
    """Read a request to ``/v1/chat/completions``."""
    fields = go_json.decode(body, CHAT, "openai.ChatCompletionRequest")
    if not fields["messages"]:
        raise Refuse(400, "[] is too short - 'messages'", early=True)
    texts, images = [], 0
    field = "ChatCompletionRequest.messages"
    messages = [
        go_json.fill(go_json.zero(MESSAGE), pairs_of(item, field, "openai.Message"), MESSAGE, field)
        for item in fields["messages"]
    ]
    for message in messages:
        text, count = _content(message)
        texts.append(f"{message['role']}: {text}")
        images += count
    job = _job(fields, "\n".join(texts))
    job.images = images
    job.tools = read_tools(fields["tools"], "ChatCompletionRequest.tools")
    job.answered_tool = messages[-1]["role"].lower() == "tool"
    job.think = _think(fields)
    job.format = _format(fields["response_format"])
    job.logprobs = fields["top_logprobs"] if fields["logprobs"] is True else None
    return job, Chat(job, usage=_include_usage(fields))


def read_completion(body: bytes) -> tuple[Job, Completion]:
    """Read a request to ``/v1/completions``."""
    fields = go_json.decode(body, COMPLETION, "openai.CompletionRequest")
    for stop in fields["stop"] if isinstance(fields["stop"], list) else ():
        if not isinstance(stop, str):
            raise Refuse(400, f"invalid type for 'stop' field: {_type(stop)}", early=True)
    job = _job(fields, fields["prompt"] + fields["suffix"])
    job.empty = not fields["prompt"]
    job.suffix = fields["suffix"]
    return job, Completion(job, usage=_include_usage(fields))


def _job(fields: dict[str, Any], prompt: str) -> Job:
    return Job(
        model=fields["model"],
        prompt=prompt,
        stream=fields["stream"],
        limit=fields["max_tokens"],
        stop=read_stop(fields["stop"]),
    )


def _include_usage(fields: dict[str, Any]) -> bool:
    options = fields["stream_options"]
    return isinstance(options, dict) and options.get("include_usage") is True


def _think(fields: dict[str, Any]) -> bool | None:
    reasoning = fields["reasoning"]
    effort = fields["reasoning_effort"] if reasoning is None else reasoning.get("effort")
    if not effort:
        return None
    if effort not in ("none", "low", "medium", "high", "max"):
        text = f'invalid reasoning value: \'{effort}\' (must be "high", "medium", "low", "max", or "none")'
        raise Refuse(400, text, early=True)
    return bool(effort != "none")


def _format(value: object) -> object:
    if isinstance(value, dict):
        if value.get("type") == "json_object":
            return "json"
        schema = value.get("json_schema")
        if value.get("type") == "json_schema" and isinstance(schema, dict):
            return schema.get("schema")
    return None


def _type(value: object) -> str:
    """Return the type that Go gives a value which can be of any."""
    kinds = {bool: "bool", int: "float64", float: "float64", dict: "map[string]interface {}", list: "[]interface {}"}
    return kinds.get(type(value), "<nil>")


def _content(message: dict[str, Any]) -> tuple[str, int]:
    """Return (text, number of images) of a message."""
    content = message["content"]
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        if not message["tool_calls"]:
            raise Refuse(400, f"invalid message content type: {_type(content)}", early=True)
        return "", 0
    texts, images = [], 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            check_image(part["image_url"].get("url") if isinstance(part["image_url"], dict) else part["image_url"])
            images += 1
        else:
            raise Refuse(400, "invalid message format", early=True)
    return "\n".join(texts), images


def check_image(url: object) -> None:
    """Refuse an image that is not a data URL of a known type."""
    if not isinstance(url, str):
        raise Refuse(400, "invalid message format", early=True)
    head, comma, data = url.partition(";base64,")
    if not comma or not head.startswith("data:") or head.removeprefix("data:") not in IMAGE_TYPES:
        raise Refuse(400, "invalid image input", early=True)
    try:
        base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise Refuse(400, "invalid message format", early=True) from None
