"""Reading the end of a backend's answer: whether it is complete, and how many tokens it took.

Dispatch hands every chunk to `Tail.add`, which only remembers the last few records; they are read once, at the end.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from proxy.kernel import json_bounds
from proxy.kernel.attempts import Usage

Format = Literal["ndjson", "sse", "json", "other"]

RECORDS: Final = 8
"""Records kept: the terminator, the usage before it, and what may share a flush with them."""
EVENTS: Final = 1000
"""Events of a stream that are looked at, from its end: several may come in one chunk."""
LONGEST_RECORD: Final = 8 * 2**20
"""Ollama's Go client reads no longer line. Of a longer one only the end is kept."""
LONGEST_JSON: Final = 256 * 1024
"""The longest answer that is kept whole where it is no stream: to parse many megabytes of embeddings would hold up
every other request."""
COUNTS_WITHIN: Final = 4096
"""Bytes from the end within which a record that was not kept whole has its counts."""

_NEWLINE: Final = 10
_LAST_COUNTS: Final = re.compile(
    rb'"(?:(prompt_eval_count|prompt_tokens|input_tokens)|(eval_count|completion_tokens|output_tokens))":\s*(\d{1,12})'
)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an answer, as its last records say.

    Attributes:
        terminated: the stream's own terminator has come: ``done:true``, ``[DONE]``, ``message_stop``, an error record.
        boundary: the last byte ended a record, so that another record may follow.
        usage: reported token counts, None where none came.
        error: the backend's own error text where the stream ended with one.
    """

    terminated: bool
    boundary: bool
    usage: Usage | None
    error: str | None = None


def format_of(content_type: bytes | None) -> Format:
    """Return how an answer is laid out, by its Content-Type."""
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind == b"application/x-ndjson":
        return "ndjson"
    if kind == b"text/event-stream":
        return "sse"
    return "json" if kind == b"application/json" else "other"


class Tail:
    """Remembers the last records of one answer that is laid out as `layout` says."""

    __slots__ = ("_kept", "_layout", "_open", "_open_size", "_records")

    def __init__(self, layout: Format) -> None:
        self._layout = layout
        self._records: deque[bytes] = deque(maxlen=RECORDS)
        self._open: list[bytes] = []
        self._open_size = 0
        self._kept = LONGEST_RECORD if layout in ("ndjson", "sse") else LONGEST_JSON

    def add(self, chunk: bytes) -> None:
        """Take one chunk, in order. Usually it is a record, newline included, and is just kept."""
        if chunk[-1] == _NEWLINE:
            if self._open:
                self._open.append(chunk)
                chunk = b"".join(self._open)
                self._open.clear()
                self._open_size = 0
            self._records.append(chunk)
        else:
            self._open.append(chunk)
            self._open_size += len(chunk)
            if self._open_size > self._kept:
                self._shorten()

    def _shorten(self) -> None:
        end = b"".join(self._open)[-(self._kept // 2) :]
        self._open = [end]
        self._open_size = len(end)

    def read(self) -> Ending:
        """Return what the records say. Never raises, whatever the backend sent."""
        layout = self._layout
        rest = b"".join(self._open)
        text = b"".join(self._records) + rest
        if layout == "ndjson":
            return _read_ndjson(text, boundary=not rest)
        if layout == "sse":
            return _read_sse(text, boundary=not rest and text.endswith((b"\n\n", b"\r\n\r\n")))
        if layout == "json":
            return _read_json(text)
        return Ending(terminated=True, boundary=False, usage=None)


def _read_ndjson(text: bytes, *, boundary: bool) -> Ending:
    line = text.rstrip(b" \t\r\n").rpartition(b"\n")[2]
    if not line:
        return Ending(terminated=False, boundary=boundary, usage=None)
    record = _object(line)
    if record is None:
        # Cut at its front, because it was too long to keep. Only the object that ends a generation has counts.
        usage = _last_counts(line) if line.endswith(b"}") else None
        return Ending(terminated=usage is not None, boundary=boundary, usage=usage)
    error = record.get("error")
    terminated = record.get("done") is True or record.get("status") == "success" or "error" in record
    return Ending(
        terminated,
        boundary,
        _ollama_usage(record) if terminated else None,
        error if isinstance(error, str) else None,
    )


def _read_sse(text: bytes, *, boundary: bool) -> Ending:
    usage: Usage | None = None
    terminated = False
    error: str | None = None
    for data in _sse_data(text):
        if data == b"[DONE]":
            terminated = True
            continue
        record = _object(data)
        if record is None:
            continue
        kind = record.get("type")
        if kind in ("message_stop", "response.completed", "response.incomplete", "response.failed"):
            terminated = True
        if kind == "error" or isinstance(record.get("error"), dict):
            terminated = True
            error = _error_text(record)
        usage = _merge(usage, _sse_usage(record))
    return Ending(terminated, boundary, usage, error)


def _read_json(text: bytes) -> Ending:
    record = _object(text)
    if record is None:
        return Ending(terminated=True, boundary=False, usage=_last_counts(text))
    usage = _ollama_usage(record) or _sse_usage(record)
    return Ending(terminated=True, boundary=False, usage=usage)


def _sse_data(text: bytes) -> Iterator[bytes]:
    """Yield the data of the last `EVENTS` events, also of one that was cut off before its blank line.

    A line ends with LF, CRLF or CR (HTML standard, section 9.2.6).
    """
    events: deque[bytes] = deque(maxlen=EVENTS)
    data: list[bytes] = []
    for line in (*text.splitlines(), b""):
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif not line and data:
            events.append(b"\n".join(data))
            data.clear()
    yield from events


def _ollama_usage(record: dict[str, Any]) -> Usage | None:
    tokens_in, tokens_out = _count(record, "prompt_eval_count"), _count(record, "eval_count")
    reason = record.get("done_reason")
    if tokens_in is None and tokens_out is None:
        return None
    return Usage(tokens_in, tokens_out, done_reason=reason if isinstance(reason, str) else None)


def _sse_usage(record: dict[str, Any]) -> Usage | None:
    """Usage as OpenAI (``prompt_tokens``), Responses and Anthropic (``input_tokens``) report it."""
    reason = _done_reason(record)
    for holder in (record, record.get("response"), record.get("message")):
        found = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(found, dict):
            tokens_in = _first(_count(found, "prompt_tokens"), _count(found, "input_tokens"))
            tokens_out = _first(_count(found, "completion_tokens"), _count(found, "output_tokens"))
            return Usage(tokens_in, tokens_out, done_reason=reason)
    return Usage(done_reason=reason) if reason else None


def _done_reason(record: dict[str, Any]) -> str | None:
    choices = record.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        found = choices[0].get("finish_reason")
    else:
        delta = record.get("delta")
        found = delta.get("stop_reason") if isinstance(delta, dict) else record.get("stop_reason")
        found = record.get("done_reason") if found is None else found
    return found if isinstance(found, str) else None


def _merge(before: Usage | None, now: Usage | None) -> Usage | None:
    """Anthropic reports the prompt at the start and the output at the end; the later number wins, None never does."""
    if before is None or now is None:
        return before or now
    return Usage(
        _first(now.tokens_in, before.tokens_in),
        _first(now.tokens_out, before.tokens_out),
        done_reason=now.done_reason or before.done_reason,
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _last_counts(text: bytes) -> Usage | None:
    tokens_in = tokens_out = None
    for of_prompt, _, count in _LAST_COUNTS.findall(text[-COUNTS_WITHIN:]):
        if of_prompt:
            tokens_in = int(count)
        else:
            tokens_out = int(count)
    return None if tokens_in is None and tokens_out is None else Usage(tokens_in, tokens_out)


def _count(record: dict[str, Any], name: str) -> int | None:
    value = record.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _error_text(record: dict[str, Any]) -> str:
    error = record.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else "error"


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json_bounds.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
