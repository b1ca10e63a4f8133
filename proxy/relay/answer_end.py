"""Read the end of a backend's answer: whether it is complete, and how many tokens it used.

The relay passes every chunk to `Tail.add`, which only keeps the last records. The last few are parsed once, at the end.
The others are parsed only where the stream has no terminator, to see why it ended.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from proxy.kernel import json_bounds
from proxy.kernel.attempts import Usage
from proxy.relay import repeat_guard

Format = Literal["ndjson", "sse", "json", "other"]

RECORDS: Final = 8
"""The number of records that are read: the terminator, the usage before it, and others that may come in one flush."""
KEPT: Final[Mapping[Format, int]] = {"ndjson": repeat_guard.EQUAL + 1, "sse": 3 * (repeat_guard.EQUAL + 1)}
"""The number of records that are kept of a stream, RECORDS of any other answer: enough to see a model repeat itself. An
event may come in up to three parts that each end with a line: its name, its data, its blank line."""
LARGE: Final = 64 * 1024
"""Bytes of a record that came in several chunks from which on only RECORDS are kept, to bound the memory."""
EVENTS: Final = 1000
"""The number of events that are read, from the end of a stream: one chunk may hold several."""
LONGEST_RECORD: Final = 8 * 2**20
"""Bytes of the longest record that is kept whole: Ollama's Go client reads no longer line."""
LONGEST_JSON: Final = 256 * 1024
"""Bytes of the longest answer, not a stream, that is kept whole: to parse many megabytes of embeddings would delay all
other requests."""
COUNTS_WITHIN: Final = 4096
"""Bytes at the end of a record that was not kept whole in which its token counts are searched."""

_NEWLINE: Final = 10
_LAST_COUNTS: Final = re.compile(
    rb'"(?:(prompt_eval_count|prompt_tokens|input_tokens)|(eval_count|completion_tokens|output_tokens))":\s*(\d{1,12})'
)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an answer, read from its last records.

    Attributes:
        terminated: whether the stream's terminator came: ``done:true``, ``[DONE]``, ``message_stop``, an error record.
            Of an answer that is no stream: False where it says itself that it is not complete.
        boundary: whether the last byte ended a record, so that another record may follow.
        usage: the reported token counts, None where there are none.
        error: the backend's error text, where the answer is an error or ended with an error record.
    """

    terminated: bool
    boundary: bool
    usage: Usage | None
    error: str | None = None


def format_of(content_type: bytes | None) -> Format:
    """Return the format of an answer, by its Content-Type."""
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind == b"application/x-ndjson":
        return "ndjson"
    if kind == b"text/event-stream":
        return "sse"
    return "json" if kind == b"application/json" else "other"


class Tail:
    """Keeps the last records of one answer in the format `layout`."""

    __slots__ = ("_kept", "_layout", "_open", "_open_size", "_records")

    def __init__(self, layout: Format) -> None:
        self._layout = layout
        self._records: deque[bytes] = deque(maxlen=KEPT.get(layout, RECORDS))
        self._open: list[bytes] = []
        self._open_size = 0
        self._kept = LONGEST_RECORD if layout in ("ndjson", "sse") else LONGEST_JSON

    def add(self, chunk: bytes) -> None:
        """Take the next chunk. It usually is one whole record with its newline, and is kept as it is."""
        if chunk[-1] == _NEWLINE:
            if self._open:
                self._open.append(chunk)
                chunk = b"".join(self._open)
                self._open.clear()
                self._open_size = 0
                if len(chunk) > LARGE:
                    self._keep_few()
            self._records.append(chunk)
        else:
            self._open.append(chunk)
            self._open_size += len(chunk)
            if self._open_size > self._kept:
                self._shorten()

    def _keep_few(self) -> None:
        while len(self._records) >= RECORDS:
            self._records.popleft()

    def _shorten(self) -> None:
        end = b"".join(self._open)[-(self._kept // 2) :]
        self._open = [end]
        self._open_size = len(end)

    def read(self) -> Ending:
        """Parse the records and return the ending. Never raises, whatever the backend sent."""
        layout = self._layout
        rest = b"".join(self._open)
        text = b"".join([*self._records][-RECORDS:]) + rest
        if layout == "ndjson":
            return _read_ndjson(text, boundary=not rest)
        if layout == "sse":
            return _read_sse(text, boundary=not rest and text.endswith((b"\n\n", b"\r\n\r\n")))
        if layout == "json":
            return _read_json(text)
        return Ending(terminated=True, boundary=False, usage=None)

    def why(self) -> repeat_guard.Verdict:
        """Return why the stream ended without a terminator, as far as its last records show."""
        text = b"".join([*self._records, *self._open])
        if self._layout == "sse":
            records = [data for _, data in _sse_events(text) if data != b"[DONE]"]
        else:
            records = [line for line in text.split(b"\n") if line.strip()]
        records.reverse()
        return repeat_guard.verdict(records, whole=len(self._records) < (self._records.maxlen or 0))


def _read_ndjson(text: bytes, *, boundary: bool) -> Ending:
    line = text.rstrip(b" \t\r\n").rpartition(b"\n")[2]
    if not line:
        return Ending(terminated=False, boundary=boundary, usage=None)
    record = _object(line)
    if record is None:
        # Its beginning was cut off, as it was too long to keep. Only the object that ends a generation has counts.
        usage = _last_counts(line) if line.endswith(b"}") else None
        return Ending(terminated=usage is not None, boundary=boundary, usage=usage)
    terminated = record.get("done") is True or record.get("status") == "success" or "error" in record
    return Ending(
        terminated,
        boundary,
        _ollama_usage(record) if terminated else None,
        _error_text(record),
    )


def _read_sse(text: bytes, *, boundary: bool) -> Ending:
    usage: Usage | None = None
    terminated = False
    error: str | None = None
    for name, data in _sse_events(text):
        if data == b"[DONE]":
            terminated = True
            continue
        record = _object(data)
        if record is None:
            if name == b"error":
                terminated, error = True, data.decode(errors="replace")
            continue
        kind = record.get("type")
        if kind in ("message_stop", "response.completed", "response.incomplete"):
            terminated = True
        failed = name == b"error" or kind in ("error", "response.failed")
        if (said := _error_text(record, failed=failed)) is not None:
            terminated, error = True, said
        usage = _merge(usage, _sse_usage(record))
    return Ending(terminated, boundary, usage, error)


def _read_json(text: bytes) -> Ending:
    record = _object(text)
    if record is None:
        return Ending(terminated=True, boundary=False, usage=_last_counts(text))
    usage = _ollama_usage(record) or _sse_usage(record)
    error = _error_text(record, failed=record.get("status") == "failed")  # a failed object of the Responses API
    return Ending(error is not None or _is_complete(record), boundary=False, usage=usage, error=error)


def _is_complete(record: dict[str, Any]) -> bool:
    """Return False for a generation, not streamed, that says that it has not ended: no reason, or ``done:false``."""
    if record.get("object") in ("chat.completion", "text_completion") or record.get("type") == "message":
        return bool(_done_reason(record))
    return record.get("done") is not False


def _sse_events(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and data of the last `EVENTS` events, including an event that was cut off before its blank line.

    A line ends with LF, CRLF or CR (HTML standard, section 9.2.6).
    """
    events: deque[tuple[bytes, bytes]] = deque(maxlen=EVENTS)
    name, data = b"", list[bytes]()
    for line in (*text.splitlines(), b""):
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif line.startswith(b"event:"):
            name = line[6:].strip()
        elif not line:
            if data:
                events.append((name, b"\n".join(data)))
                data.clear()
            name = b""
    yield from events


def _ollama_usage(record: dict[str, Any]) -> Usage | None:
    tokens_in, tokens_out = _count(record, "prompt_eval_count"), _count(record, "eval_count")
    reason = record.get("done_reason")
    if tokens_in is None and tokens_out is None:
        return None
    return Usage(tokens_in, tokens_out, done_reason=reason if isinstance(reason, str) else None)


def _sse_usage(record: dict[str, Any]) -> Usage | None:
    """Return the usage as OpenAI (``prompt_tokens``), Responses and Anthropic (``input_tokens``) report it."""
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
    """Merge two reports: a later number replaces an earlier one, None does not.

    Anthropic reports the prompt's tokens at the start and the output's at the end.
    """
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


def _error_text(record: dict[str, Any], *, failed: bool = False) -> str | None:
    """Return the text of the error in a record of any API; None where it holds none and is not known to have `failed`.

    OpenAI's Responses API has the error in ``response.error``, or its text in ``message``.
    """
    response = record.get("response")
    error = record.get("error") or (failed and isinstance(response, dict) and response.get("error"))
    if not (failed or error):
        return None
    text = error.get("message") if isinstance(error, dict) else error
    text = text or (record.get("message") if failed else None)
    return text if isinstance(text, str) else "an error without a text"


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json_bounds.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
