"""Ends of answers: what the last records say, however they were cut. An input is a layout, a line feed, the stream."""

import re
from typing import Any, Final, cast

from proxy.relay.answer_end import LONGEST_JSON, RECORDS, Ending, Format, Tail
from tests.fuzz import cuts
from tests.fuzz.oracles import records

LAYOUTS: Final = ("ndjson", "sse", "json", "other")
_DEEP: Final = 200
"""Brackets from which on two readers of JSON may find it too deep."""

TOKENS = (
    b"ndjson\n",
    b"sse\n",
    b"json\n",
    b'{"done":true}\n',
    b'{"done":false}\n',
    b'"done":true,',
    b'{"status":"success"}\n',
    b'{"error":"x"}\n',
    b'"error":{"message":"x"}',
    b'"prompt_eval_count":7,',
    b'"eval_count":3,',
    b'"done_reason":"stop",',
    b"data: ",
    b"data:",
    b"data: [DONE]\n\n",
    b"event: error\n",
    b": ping\n\n",
    b'"type":"message_stop"',
    b'"type":"error"',
    b'"type":"response.completed"',
    b'"type":"response.failed"',
    b'"object":"chat.completion"',
    b'"type":"message"',
    b'"finish_reason":null',
    b'"status":"failed"',
    b'{"response":"a","done":false}\n',
    b'"usage":{"prompt_tokens":7,"completion_tokens":3}',
    b'"usage":{"input_tokens":7,"output_tokens":3}',
    b'"response":{',
    b'"message":{',
    b'"choices":[{"finish_reason":"stop"}]',
    b'"delta":{"stop_reason":"end_turn"}',
    b"null",
    b"1e999",
    b"18446744073709551616",
    b"\\ud800",
    b"\n",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b'"',
    b"\xff",
    b"\x85",
)


def check(data: bytes) -> None:
    """Raise where an end is read as something else than what the stream's records say."""
    name, _, stream = data.partition(b"\n")
    layout = cast(Format, name.decode("latin-1"))
    if layout not in LAYOUTS:
        return
    endings = [_read(layout, [stream] if stream else [])]
    if stream.count(b"\n") <= RECORDS and len(stream) < LONGEST_JSON // 2:
        endings += [_read(layout, pieces) for pieces in cuts.ways(stream)]
    else:  # of more, only the last records count, and which those are depends on the pieces
        for pieces in cuts.ways(stream):
            _read(layout, pieces)
    assert _why(layout, stream) in ("repeated", "hidden", "other")
    for ending in endings:
        assert ending == endings[0], f"read as {ending} when cut, as {endings[0]} whole"
        _check_counts(ending)
    if stream.count(b"[") + stream.count(b"{") < _DEEP:
        terminated = _terminated(layout, stream)
        assert endings[0].terminated == terminated, f"{endings[0]}, and the records say {terminated}"
    if layout == "ndjson":
        assert endings[0].boundary == (stream == b"" or stream.endswith(b"\n"))


def _read(layout: Format, pieces: list[bytes]) -> Ending:
    tail = Tail(layout)
    for piece in pieces:
        tail.add(piece)
    return tail.read()


def _why(layout: Format, stream: bytes) -> str:
    tail = Tail(layout)
    if stream:
        tail.add(stream)
    return tail.why()


def _check_counts(ending: Ending) -> None:
    usage = ending.usage
    if usage is not None:
        for count in (usage.tokens_in, usage.tokens_out):
            assert count is None or (type(count) is int and count >= 0)
        assert type(usage.done_reason) in (str, type(None))
    assert type(ending.error) in (str, type(None))


def _terminated(layout: Format, stream: bytes) -> bool:
    if layout == "ndjson":
        lines = records.objects(stream)
        if not lines:
            return False
        line, record = lines[-1]
        if record is None:  # cut at its front, perhaps: its counts tell
            return line.rstrip(b" \t\r").endswith(b"}") and bool(_COUNTS.search(line))
        return record.get("done") is True or record.get("status") == "success" or "error" in record
    if layout == "sse":
        return any(_ends_it(name, data) for name, data in records.events(stream))
    answer = records.json_object(stream) if layout == "json" else None
    return answer is None or _is_error(answer) or _has_ended(answer)


def _ends_it(name: bytes, data: bytes) -> bool:
    if data == b"[DONE]" or name == b"error":
        return True
    record: dict[str, Any] | None = records.json_object(data)
    return record is not None and (
        record.get("type") in ("message_stop", "response.completed", "response.incomplete", "response.failed", "error")
        or bool(record.get("error"))
    )


def _is_error(answer: dict[str, Any]) -> bool:
    return bool(answer.get("error")) or answer.get("status") == "failed"


def _has_ended(answer: dict[str, Any]) -> bool:
    if answer.get("object") not in ("chat.completion", "text_completion") and answer.get("type") != "message":
        return answer.get("done") is not False
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        reason = choices[0].get("finish_reason")
    else:
        delta = answer.get("delta")
        reason = delta.get("stop_reason") if isinstance(delta, dict) else answer.get("stop_reason")
        reason = answer.get("done_reason") if reason is None else reason
    return isinstance(reason, str) and reason != ""


_COUNTS: Final = re.compile(
    rb'"(?:prompt_eval_count|prompt_tokens|input_tokens|eval_count|completion_tokens|output_tokens)":\s*\d'
)
