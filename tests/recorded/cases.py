"""What a real Ollama answered, and how an answer is compared with it (``README.md`` here)."""

import base64
import json
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from proxy.simulator.model_names import DEFAULT_HOST
from proxy.simulator.offline import CLOUD
from tests.proxy.simulator.client import Answer

FILE: Final = Path(__file__).with_name("ollama.jsonl")
LONG_PROMPT: Final = "Hello world, this is a long prompt. "

Chunks = list[tuple[int, str]]  # (how often in a row, the first of them)

# Names in the place of the hosts that Ollama names in its texts.
_HOSTS: Final = ((DEFAULT_HOST, "registry.example"), (CLOUD, "cloud.example:443"))

# Members whose text is made up by a model, or differs each time: only their type is compared, and whether they are "".
_FREE: Final = frozenset(
    [
        "response",
        "content",
        "thinking",
        "reasoning",
        "text",
        "delta",
        "partial_json",
        "encrypted_content",
        "token",
        "logprob",
        "bytes",
        "context",
        "created",
        "created_at",
        "completed_at",
        "modified_at",
        "expires_at",
        "request_id",
        "sequence_number",
        "total_duration",
        "load_duration",
        "prompt_eval_duration",
        "eval_duration",
        "prompt_eval_count",
        "prompt_tokens",
        "input_tokens",
        "total_tokens",
        "total",
        "completed",
    ]
)
# Members that count pieces: compared where the request says how many there have to be.
_COUNTS: Final = frozenset({"eval_count", "completion_tokens", "output_tokens"})
_STOPPED: Final = re.compile(r'"(?:done_reason|finish_reason|stop_reason)":"(?:stop|end_turn)"')
_VARYING: Final = (
    (re.compile(r"\b(chatcmpl-|cmpl-|resp_|msg_|rs_|fc_|req_|call_)[0-9a-z_]+"), r"\1#"),
    (re.compile(r"sha256([:-])[0-9a-f]{64}"), r"sha256\1#"),
    (re.compile(r"\?ts=\d+"), "?ts=#"),
    (re.compile(r"request \(\d+ tokens\)"), "request (# tokens)"),
    (re.compile(r'\\?"n_prompt_tokens\\?":\d+'), "n_prompt_tokens:#"),
)


@dataclass(frozen=True)
class Case:
    """One request and what Ollama answered. `chunks` are (how often in a row, text)."""

    name: str
    method: str
    path: str
    request_headers: dict[str, str]
    body: bytes
    status: int
    headers: dict[str, str]
    framing: str
    ended: str
    chunks: Chunks


def read_cases() -> list[Case]:
    """Return the cases in the order in which they were asked."""
    return [_case(json.loads(line)) for line in FILE.read_text("utf-8").splitlines()]


def _case(line: dict[str, Any]) -> Case:
    request = line["request"]
    return Case(
        name=line["name"],
        method=request["method"],
        path=request["path"],
        request_headers=request.get("headers", {}),
        body=_body(request.get("body", "")),
        status=line["status"],
        headers=line["headers"],
        framing=line["framing"],
        ended=line["ended"],
        chunks=[(times, text) for times, text in line["chunks"]],
    )


def _body(body: str | dict[str, str]) -> bytes:
    if isinstance(body, dict):
        return base64.b64decode(body["base64"])
    return re.sub(r"«(\d+) times»", lambda found: LONG_PROMPT * int(found[1]), body).encode()


def differences(case: Case, answer: Answer) -> dict[str, tuple[object, object]]:
    """Return what differs, by its name, as (recorded, answered)."""
    recorded: dict[str, object] = {
        "status": case.status,
        "headers": _recorded_headers(case),
        "framing": case.framing,
        "ended": case.ended,
    }
    answered: dict[str, object] = {
        "status": answer.status,
        "headers": _answered_headers(case, answer),
        "framing": framing(case.method, answer),
        "ended": answer.end,
    }
    texts = [chunk.decode("utf-8", "replace") for chunk in answer.chunks if chunk]
    # Where words or the context end the reply, and not the limit that the request sets, their number says nothing.
    counted = b'"shift": false' not in case.body and not _STOPPED.search("".join(text for _, text in case.chunks))
    recorded["chunks"], recorded["counts"] = _shapes(case.chunks, counted)
    answered["chunks"], answered["counts"] = _shapes([(1, text) for text in texts], counted)
    whole = "".join(texts)
    # What is not looked at piece by piece, as pieces are told apart by their shapes, or numbers are made up.
    recorded |= {"spaced": _spaced("".join(text for _, text in case.chunks)), "numbered": True, "summed": True}
    answered |= {"spaced": _spaced(whole), "numbered": _is_numbered(whole), "summed": _is_summed(whole)}
    return {name: (recorded[name], answered[name]) for name in recorded if recorded[name] != answered[name]}


_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_NUMBER: Final = re.compile(r'"sequence_number":(\d+)')
_USAGE: Final = re.compile(r'"(?:prompt|input)_tokens":(\d+),"(?:completion|output)_tokens":(\d+),"total_tokens":(\d+)')


def _spaced(text: str) -> bool:
    """Return whether JSON has spaces between its values; Go writes none."""
    return any(" " in _STRING.sub("", line.removeprefix("data: ")) for line in text.split("\n") if "{" in line)


def _is_numbered(text: str) -> bool:
    """Return whether the events that have a number are counted from 0."""
    return [int(number) for number in _NUMBER.findall(text)] == list(range(text.count('"sequence_number":')))


def _is_summed(text: str) -> bool:
    """Return whether all tokens are those of the prompt and those of the answer."""
    return all(int(prompt) + int(answer) == int(total) for prompt, answer, total in _USAGE.findall(text))


def framing(method: str, answer: Answer) -> str:
    """Return how the body was delimited: ``none``, ``chunked``, ``length`` or ``close``."""
    if method == "HEAD":
        return "none"
    if "transfer-encoding" in answer.headers:
        return "chunked"
    return "length" if "content-length" in answer.headers else "close"


def _recorded_headers(case: Case) -> dict[str, str]:
    return dict(case.headers)


def _answered_headers(case: Case, answer: Answer) -> dict[str, str]:
    """Return the headers without Date; a length is ``N`` where it depends on what varies."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    if case.headers.get("content-length") == "N" and "content-length" in headers:
        headers["content-length"] = "N"
    return headers


def _shapes(chunks: Chunks, counted: bool) -> tuple[list[object], list[int]]:
    """Return (the shapes of the chunks, equal ones in a row once; how often each)."""
    shapes = [(tuple(_records(text, counted)), times) for times, text in chunks]
    runs = [(shape, sum(times for _, times in run)) for shape, run in groupby(shapes, key=lambda item: item[0])]
    return [shape for shape, _ in runs], [times for _, times in runs] if counted else []


def _records(text: str, counted: bool) -> list[object]:
    """Return the shapes of the records in one chunk: events of SSE, lines of JSON, or any other text as it is."""
    for real, placeholder in _HOSTS:
        text = text.replace(real, placeholder)
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    text = re.sub(r":#(?=[,}\]])", ":0", text)
    if text.startswith(("data: ", "event: ")):
        return [[_line(line, counted) for line in event.split("\n")] for event in text.split("\n\n")]
    if text.startswith("{"):
        return [_json(line, counted) for line in text.split("\n")]
    return [text]


def _line(line: str, counted: bool) -> object:
    name, _, value = line.partition(": ")
    return (name, _json(value, counted)) if value.startswith("{") else line


def _json(text: str, counted: bool) -> object:
    if not text:
        return ""
    try:
        value = json.loads(text, object_pairs_hook=_Object)
    except ValueError:
        return text
    return _shape(value, "", counted)


class _Object(list[tuple[str, Any]]):
    """A JSON object with its members in their order."""


def _shape(value: Any, name: str, counted: bool) -> object:
    """Return `value` without what models make up; `name` is the member that it is the value of."""
    if isinstance(value, _Object):
        return ("{", tuple((key, _shape(item, key, counted)) for key, item in value), "}")
    if isinstance(value, list):
        items: list[object] = [_shape(item, name, counted) for item in value]
        if name.startswith("tokenizer."):
            items = [*sorted({type(item).__name__ for item in value})]
        elif name in _FREE and not any(isinstance(item, _Object) for item in value):
            items = sorted(set(items), key=repr)
        elif name in ("models", "data"):  # in no order within a second
            items = sorted(items, key=repr)
        elif name == "recommendations":  # of the day
            items = [*sorted({tuple(key for key, _ in item) for item in value})]
        return ("[", tuple(items), "]")
    if name in _FREE or (name in _COUNTS and not counted):
        return f"<{type(value).__name__}>" if value or not isinstance(value, str) else ""
    return repr(value)
