"""An inference request of any flavor, and the pieces of its answer."""

import itertools
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from proxy.simulator import go_json, made_up_text
from proxy.simulator.refusals import Refuse
from proxy.simulator.settings import Model, Settings

# Why an answer ended; "" is Ollama's guard against loops, which ends it without a word.
Reason = Literal["stop", "length", "load", "unload", ""]


@dataclass(slots=True)
class Job:
    """An inference request as Ollama's own handlers see it, after the compatibility layers.

    Attributes:
        model: the name as sent.
        prompt: everything that the model reads, as one text; the reply depends on it alone.
        stream: whether to answer token by token.
        limit: number of tokens asked for; None or less than 1 is no limit.
        options, keep_alive, think, tools, format: as in the native API; `keep_alive` in seconds, `tools` as
            ``(name, JSON schema of the arguments)``.
        empty: nothing to answer, so the model is only loaded, or unloaded with a `keep_alive` of 0.
        images: how many came with it.
        stop: texts that end the reply, and are no part of it.
        suffix: what comes behind the text that is to be filled in.
        logprobs: how many alternatives to tell with each token, 0 none but the token itself; None is no logprobs.
        keeps_context: whether the reply ends with the ``context`` array.
        context: length of the ``context`` that came with it.
        truncate, shift: whether a prompt may be cut, and the context shifted, to fit.
        answered_tool: whether the last message is the result of a tool.
        relaxed: whether asking a model to think that cannot is forgiven.
    """

    model: str
    prompt: str
    stream: bool
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None
    think: bool | None = None
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    format: object = None
    empty: bool = False
    images: int = 0
    stop: list[str] = field(default_factory=list)
    suffix: str = ""
    logprobs: int | None = None
    keeps_context: bool = False
    context: int = 0
    truncate: bool = True
    shift: bool = True
    answered_tool: bool = False
    relaxed: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt: its words, and 256 for each image."""
        return max(1, len(self.prompt.split())) + 256 * self.images + self.context

    def fit(self, context: int) -> None:
        """Limit the reply to what `context` tokens leave room for behind the prompt."""
        room = max(1, context - self.prompt_tokens)
        self.limit = min(self.limit, room) if self.limit and self.limit > 0 else room


@dataclass(slots=True)
class ToolCall:
    """The model's wish to call a tool."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Piece:
    """One token of a reply; the last one of a tool call is the call."""

    kind: Literal["thinking", "content", "tool"]
    text: str = ""
    call: ToolCall | None = None


@dataclass(slots=True)
class Usage:
    """The numbers of the final object, durations in nanoseconds; `held` is text that the tool parser still holds."""

    reason: Reason
    prompt_tokens: int
    tokens: int
    total: int
    load: int
    prompt: int
    eval: int
    context: list[int] = field(default_factory=list)
    held: str = ""


@dataclass(slots=True)
class Speech:
    """A reply before it is said: its pieces, how many they are, and why it ends."""

    pieces: Iterator[Piece]
    count: int
    reason: Reason


def compose(settings: Settings, key: str, model: Model, job: Job) -> Speech:
    """Decide on the reply; the same for the same seed, model and prompt."""
    rng = made_up_text.dice(settings.seed, key, job.prompt)
    thinks = "thinking" in model.capabilities and job.think is not False
    thoughts = [
        Piece("thinking", text) for text in itertools.islice(made_up_text.tokens(rng), settings.thinking_tokens)
    ]
    front = thoughts if thinks else []
    endless = False
    if job.tools and settings.call_tools and not job.answered_tool:
        rest: Iterator[Piece] = iter(_tool_pieces(_call(rng, *job.tools[0]), settings.tool_tokens))
        natural = len(front) + settings.tool_tokens
    elif job.format:
        texts = made_up_text.structured(rng, job.format)
        rest = (Piece("content", text) for text in texts)
        natural = len(front) + len(texts)
    else:
        rest = (Piece("content", text) for text in made_up_text.tokens(rng))
        natural, endless = len(front) + settings.tokens, True
    limit = job.limit if job.limit and job.limit > 0 else None
    count = min(natural if limit is None else limit if endless else min(limit, natural), settings.max_tokens)
    reason: Reason = "length" if limit is not None and count == limit and (endless or limit < natural) else "stop"
    pieces = itertools.islice(itertools.chain(front, rest), count)
    if job.stop:
        return _stopped(list(pieces), job.stop, reason)
    return Speech(pieces, count, reason)


def _stopped(pieces: list[Piece], stop: list[str], reason: Reason) -> Speech:
    """Return a speech that ends before the first of the texts in `stop`."""
    said = ""
    for number, piece in enumerate(pieces):
        before, said = len(said), said + piece.text if piece.kind == "content" else said
        found = min((at for text in stop if text and (at := said.find(text)) >= 0), default=-1)
        if found >= 0:
            last = [Piece("content", said[before:found])] if found > before else []
            return Speech(iter(pieces[:number] + last), number + len(last), "stop")
    return Speech(iter(pieces), len(pieces), reason)


def _tool_pieces(call: ToolCall, tokens: int) -> list[Piece]:
    """Return a tool call as `tokens` pieces, the last of which is the call."""
    text = go_json.dumps({"name": call.name, "parameters": call.arguments}).decode()
    step = max(1, len(text) // tokens)
    held = [Piece("content", text[at * step : (at + 1) * step]) for at in range(tokens - 1)]
    return [*held, Piece("tool", call=call)]


def _call(rng: random.Random, name: str, schema: dict[str, Any]) -> ToolCall:
    arguments = made_up_text.instance(rng, {"type": "object", **schema})
    letters = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=8))
    return ToolCall(f"call_{letters}", name, arguments if isinstance(arguments, dict) else {})


TOOL: Final = {"type": go_json.STRING, "function": go_json.MAP}


def read_tools(items: list[Any], field: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, schema) of tools in the form that Ollama and OpenAI share; `field` names where they stand."""
    tools = []
    for item in items:
        function = go_json.fill(go_json.zero(TOOL), pairs_of(item, field, "api.Tool"), TOOL, field)["function"]
        parameters = function.get("parameters")
        tools.append((str(function.get("name", "")), parameters if isinstance(parameters, dict) else {}))
    return tools


def pairs_of(value: object, field: str, kind: str) -> go_json.Pairs:
    """Return an object's pairs, or refuse what is no object as a struct of type `kind` does; "" is no field."""
    if value is None:
        return []
    if not isinstance(value, list):
        where = f"struct field {field}" if field else "value"
        raise go_json.BadJSON(f"json: cannot unmarshal {go_json.kind_of(value)} into Go {where} of type {kind}")
    return value


def read_stop(value: object) -> list[str]:
    """Read ``stop``: a text, or an array of texts."""
    texts = value if isinstance(value, list) else [value]
    return [text for text in texts if isinstance(text, str) and text]


def read_think(value: object) -> bool | None:
    """Read ``think``: a boolean, or a level."""
    if value is None or isinstance(value, bool):
        return value
    if value in ("low", "medium", "high", "max"):
        return True
    if not isinstance(value, str):
        raise Refuse(400, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)')
    raise Refuse(400, f'invalid think value: "{value}" (must be "high", "medium", "low", "max", true, or false)')


_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([-+]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+|0)")


def read_keep_alive(value: object) -> float | None:
    """Read ``keep_alive``: seconds, cut off at the point, or a duration of Go's (``5m``); negative is for ever."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(int(value)) if value >= 0 else -1.0
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        parts = re.findall(r"(\d+\.?\d*|\.\d+)([a-zµ]+)", match[2])
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        return -seconds if match[1] == "-" else seconds
    if not isinstance(value, str):
        kind = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}[type(value)]
        raise Refuse(400, f"Unsupported type: '{kind}'")
    raise Refuse(400, f'time: {_wrong(value)} duration "{value}"')


def _wrong(duration: str) -> str:
    """Return what Go finds wrong with a duration: its first part that is no number with a unit."""
    rest = duration[1:] if duration.startswith(("-", "+")) else duration
    while part := re.match(r"(?:\d+\.?\d*|\.\d+)([^\d.]*)", rest):
        if part[1] not in _UNITS:
            return f'unknown unit "{part[1]}" in' if part[1] else "missing unit in"
        rest = rest[part.end() :]
    return "invalid"


_second: tuple[int, str] = (-1, "")


def timestamp() -> str:
    """Return the time as Go's RFC3339Nano: nanoseconds without their trailing zeros."""
    global _second
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    fraction = f".{nanoseconds:09d}".rstrip("0")
    return f"{_second[1]}{fraction if len(fraction) > 1 else ''}Z"
