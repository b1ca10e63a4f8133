"""OpenAI's ``/v1/responses`` as Ollama's compatibility layer speaks it: numbered events, no ``[DONE]``.

Go writes the keys of its maps in alphabetical order, so these events have theirs sorted.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import orjson

from proxy.simulator import go_json, made_up_text
from proxy.simulator.flavor_ollama import text_of
from proxy.simulator.flavor_openai import check_image
from proxy.simulator.generation_job import Job, Piece, ToolCall, Usage
from proxy.simulator.go_json import ANY, BOOL, FLOAT, INT, POINTER, STRING
from proxy.simulator.refusals import JSON, Refuse

RESPONSES: Final = {
    "model": STRING,
    "input": ANY,
    "instructions": STRING,
    "max_output_tokens": POINTER + INT,
    "reasoning": ANY,
    "temperature": POINTER + FLOAT,
    "top_p": POINTER + FLOAT,
    "truncation": POINTER + STRING,
    "text": ANY,
    "tools": "[]openai.ResponsesTool",
    "stream": POINTER + BOOL,
    "background": BOOL,
}

Event = dict[str, Any]


class Responses:
    """``/v1/responses``. Each event is its own chunk."""

    flavor: Final = "openai"
    content_type: Final = b"text/event-stream"

    def __init__(self, job: Job, fields: dict[str, Any]) -> None:
        rng = made_up_text.dice(int(time.time()), job.prompt)
        self.id = f"resp_{rng.randrange(999_999)}"
        self._message_id = f"msg_{rng.randrange(999_999)}"
        self._reasoning_id = f"rs_{rng.randrange(999_999)}"
        self._fields = fields
        self._streams = job.stream
        self._number = 0
        self._index = 0
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._reasoning = False  # whether the reasoning item is open
        self._calls: list[dict[str, Any]] = []

    def piece(self, piece: Piece) -> Sequence[bytes]:
        """Return the events of one token, with the beginnings and ends of items that it brings about."""
        events = self._begin()
        if piece.kind == "thinking":
            events += self._think(piece.text)
        elif piece.call:
            events += [*self._end_reasoning(), *self._call(piece.call)]
        else:
            events += [*self._end_reasoning(), *self._say(piece.text)]
        return events

    def done(self, usage: Usage) -> Sequence[bytes]:
        """Return the events that end a response."""
        events = [*self._begin()]
        if usage.held:
            events += self.piece(Piece("content", usage.held))
        events += self._end_reasoning()
        if self._text and not self._calls:
            where: Event = {"item_id": self._message_id, "output_index": self._index, "content_index": 0}
            text = "".join(self._text)
            events += [
                self._event("response.output_text.done", {**where, "text": text, "logprobs": []}),
                self._event("response.content_part.done", {**where, "part": _part(text)}),
                self._event("response.output_item.done", {"output_index": self._index, "item": self._message(text)}),
            ]
        output = [self._reasoning_item()] if self._thoughts else []
        if self._calls:
            output += self._calls
        elif self._text:
            output.append(self._message("".join(self._text)))
        response = {
            **self._object("completed", output or None),
            "usage": _usage(usage),
            "completed_at": int(time.time()),
        }
        return [*events, self._event("response.completed", {"response": response})]

    def failed(self, message: str) -> Sequence[bytes]:
        """Return nothing: the layer loses an error in mid-stream."""
        return ()

    def whole(self, pieces: list[Piece], usage: Usage) -> tuple[bytes, bytes]:
        """Return (content type, body) of an answer that is not streamed."""
        if thinking := text_of(pieces, "thinking"):
            self._thoughts.append(thinking)
        calls = [piece.call for piece in pieces if piece.call]
        output = [self._reasoning_item()] if self._thoughts else []
        output += [_call_item(f"fc_{self.id}_{n}", call, "completed") for n, call in enumerate(calls)]
        if not calls:
            output.append(self._message(text_of(pieces, "content")))
        body = {**self._object("completed", output), "usage": _usage(usage), "completed_at": int(time.time())}
        return JSON, go_json.dumps(body) + b"\n"

    def _begin(self) -> list[bytes]:
        if self._number:
            return []
        return [
            self._event(kind, {"response": self._object("in_progress", [])})
            for kind in ("response.created", "response.in_progress")
        ]

    def _think(self, text: str) -> list[bytes]:
        events = []
        if not self._reasoning:
            self._reasoning = True
            item = {"id": self._reasoning_id, "type": "reasoning", "summary": []}
            events.append(self._event("response.output_item.added", {"output_index": self._index, "item": item}))
        self._thoughts.append(text)
        where = {"item_id": self._reasoning_id, "output_index": self._index, "summary_index": 0}
        return [*events, self._event("response.reasoning_summary_text.delta", {**where, "delta": text})]

    def _end_reasoning(self) -> list[bytes]:
        if not self._reasoning:
            return []
        self._reasoning = False
        where = {"item_id": self._reasoning_id, "output_index": self._index, "summary_index": 0}
        done = {"output_index": self._index, "item": self._reasoning_item()}
        self._index += 1
        return [
            self._event("response.reasoning_summary_text.done", {**where, "text": "".join(self._thoughts)}),
            self._event("response.output_item.done", done),
        ]

    def _say(self, text: str) -> list[bytes]:
        events = []
        where: Event = {"item_id": self._message_id, "output_index": self._index, "content_index": 0}
        if not self._text:
            item = {**self._message(""), "status": "in_progress", "content": []}
            events = [
                self._event("response.output_item.added", {"output_index": self._index, "item": item}),
                self._event("response.content_part.added", {**where, "part": _part("")}),
            ]
        self._text.append(text)
        return [*events, self._event("response.output_text.delta", {**where, "delta": text, "logprobs": []})]

    def _call(self, call: ToolCall) -> list[bytes]:
        item = _call_item(f"fc_{self.id}_{len(self._calls)}", call, "completed")
        index = self._index + len(self._calls)
        self._calls.append(item)
        where = {"item_id": item["id"], "output_index": index}
        begun = {**item, "status": "in_progress", "arguments": ""}
        return [
            self._event("response.output_item.added", {"output_index": index, "item": begun}),
            self._event("response.function_call_arguments.delta", {**where, "delta": item["arguments"]}),
            self._event("response.function_call_arguments.done", {**where, "arguments": item["arguments"]}),
            self._event("response.output_item.done", {"output_index": index, "item": item}),
        ]

    def _event(self, kind: str, data: Event) -> bytes:
        body = {**data, "type": kind, "sequence_number": self._number}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), go_json.escape(orjson.dumps(body, option=_SORTED)))

    def _message(self, text: str) -> dict[str, Any]:
        content = [_part(text)]
        return {
            "id": self._message_id,
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": content,
        }

    def _reasoning_item(self) -> dict[str, Any]:
        text = "".join(self._thoughts)
        summary = [{"type": "summary_text", "text": text}]
        return {"id": self._reasoning_id, "type": "reasoning", "summary": summary, "encrypted_content": text}

    def _reasoning_echo(self) -> dict[str, Any] | None:
        """Return what the request said of reasoning; a stream, which Go makes of maps, names a summary in any case."""
        if not (asked := self._fields["reasoning"]):
            return None
        echo = {name: asked.get(name) for name in ("effort", "summary")}
        return echo if self._streams or echo["summary"] else {"effort": echo["effort"]}

    def _object(self, status: str, output: list[dict[str, Any]] | None) -> dict[str, Any]:
        fields = self._fields
        text = fields["text"]
        form = text.get("format") if isinstance(text, dict) else None
        return {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": status,
            "incomplete_details": None,
            "model": fields["model"],
            "previous_response_id": None,
            "instructions": fields["instructions"] or None,
            "output": output,
            "error": None,
            "tools": [_tool(go_json.plain(tool)) for tool in fields["tools"]],
            "tool_choice": "auto",
            "truncation": fields["truncation"] or "disabled",
            "parallel_tool_calls": True,
            "text": {"format": form or {"type": "text"}},
            "top_p": _number(fields["top_p"]),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": _number(fields["temperature"]),
            "reasoning": self._reasoning_echo(),
            "usage": None,
            "max_output_tokens": fields["max_output_tokens"],
            "max_tool_calls": None,
            "store": False,
            "background": fields["background"],
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": None,
            "prompt_cache_key": None,
        }


_SORTED: Final = orjson.OPT_SORT_KEYS


def _number(value: float | None) -> float:
    """Return the number, 1 for none, as Go writes it: without a point where it is whole."""
    value = 1.0 if value is None else value
    return int(value) if value == int(value) else value


def _tool(tool: Any) -> Any:
    """Return a tool as Ollama's struct has it, its parameters in alphabetical order."""
    if not isinstance(tool, dict):
        return tool
    echo = {name: tool.get(name) for name in ("type", "name", "description", "strict", "parameters")}
    return {**echo, "parameters": orjson.loads(orjson.dumps(echo["parameters"], option=_SORTED))}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(id: str, call: ToolCall, status: str) -> dict[str, Any]:
    arguments = go_json.dumps(call.arguments).decode()
    return {
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.tokens,
        "total_tokens": usage.prompt_tokens + usage.tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def read_responses(body: bytes) -> tuple[Job, Responses]:
    """Read a request to ``/v1/responses``."""
    fields = go_json.decode(body, RESPONSES, "openai.ResponsesRequest")
    texts, images, answered = _input(fields["input"])
    if fields["instructions"]:
        texts.insert(0, f"system: {fields['instructions']}")
    job = Job(
        model=fields["model"],
        prompt="\n".join(texts),
        stream=bool(fields["stream"]),
        limit=fields["max_output_tokens"],
        think=_effort(fields["reasoning"]),
        tools=_tools(fields["tools"]),
        format=_format(fields["text"]),
        empty=not texts,
        images=images,
        answered_tool=answered,
    )
    return job, Responses(job, fields)


def _input(value: object) -> tuple[list[str], int, bool]:
    """Return (texts, number of images, whether it ends with a tool's output)."""
    if isinstance(value, str):
        return ([f"user: {value}"] if value else []), 0, False
    if value is None:
        return [], 0, False
    if not isinstance(value, list):
        raise Refuse(400, "input must be a string or array", early=True)
    texts, images, kind = [], 0, ""
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise Refuse(400, f"input[{number}]: json: cannot unmarshal value into Go value", early=True)
        kind = item.get("type") or ("message" if item.get("role") else "")
        if kind not in ("message", "function_call", "function_call_output", "reasoning"):
            raise Refuse(400, f'input[{number}]: unknown input item type: "{kind}"', early=True)
        content = item.get("content") or item.get("output") or item.get("arguments") or ""
        for part in content if isinstance(content, list) else [{"type": "input_text", "text": content}]:
            match part:
                case {"type": "input_text" | "output_text", "text": str(text)}:
                    texts.append(f"{item.get('role', kind)}: {text}")
                case {"type": "input_image", "image_url": url}:
                    check_image(url)
                    images += 1
                case _:
                    raise Refuse(400, f"input[{number}]: content[0]: unknown content type", early=True)
    return texts, images, kind == "function_call_output"


def _effort(reasoning: object) -> bool | None:
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    if not effort:
        return None
    if effort not in ("none", "low", "medium", "high", "max"):
        raise Refuse(400, f'invalid reasoning value: "{effort}"', early=True)
    return bool(effort != "none")


def _tools(items: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    tools = [go_json.plain(item) for item in items]
    return [(str(tool.get("name", "")), tool.get("parameters") or {}) for tool in tools if isinstance(tool, dict)]


def _format(text: object) -> object:
    form = text.get("format") if isinstance(text, dict) else None
    return form.get("schema") if isinstance(form, dict) and form.get("type") == "json_schema" else None
