"""The results of a batch: what became of each request, as a line of the file that its client fetches."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from proxy.batches.progress import Status
from proxy.kernel.errors import Flavor
from proxy.kernel.journal import Entry
from proxy.kernel.json_members import on_one_line

Kind = Literal["succeeded", "errored", "canceled", "expired"]
_SAYS: Final[dict[Kind, tuple[str, str]]] = {
    "canceled": ("batch_cancelled", "The batch was cancelled before the request had run."),
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request.

    Attributes:
        id: the id of its entry.
        custom_id: the client's name for it.
        kind: how it ended.
        status: the status of its answer; None where it has none.
        body: its answer, JSON on one line; None where it has none.
        reason: what went wrong, beside the answer, as a name.
        message: the same in words.
    """

    id: str
    custom_id: str
    kind: Kind
    status: int | None = None
    body: bytes | None = None
    reason: str = "server_error"
    message: str = "the request has failed"


def result_of(id: str, custom_id: str, entry: Entry | None, record: bytes, status: Status) -> Result:
    """Return what became of a request.

    Args:
        id: the id that its entry has, or would have.
        custom_id: the client's name for it.
        entry: its entry; None where it has none.
        record: its answer.
        status: the status of the batch, which says why a request has not run.
    """
    if entry is None or not entry.over or entry.state in ("cancelled", "expired"):
        expired = status == "expired" or (entry is not None and entry.state == "expired")
        kind: Kind = "expired" if expired else "canceled"
        return Result(id, custom_id, kind, reason=_SAYS[kind][0], message=_SAYS[kind][1])
    body = _json(record)
    if entry.state == "completed" and body is not None:
        return Result(id, custom_id, "succeeded", entry.status, body)
    reason, colon, message = (entry.error or "bad_answer: the answer is not JSON").partition(": ")
    kept = body if entry.status is not None and entry.status >= 400 else None
    return Result(id, custom_id, "errored", entry.status, kept, reason if colon else "server_error", message or reason)


def openai_line(result: Result) -> bytes:
    """Return a line of OpenAI's output or error file."""
    name, custom_id = orjson.dumps(result.id), orjson.dumps(result.custom_id)
    if result.body is not None:
        response = b'{"status_code":%d,"request_id":%s,"body":%s}' % (result.status or 200, name, result.body)
        error = b"null"
    else:
        response, error = b"null", orjson.dumps({"code": result.reason, "message": result.message})
    return b'{"id":%s,"custom_id":%s,"response":%s,"error":%s}\n' % (name, custom_id, response, error)


def anthropic_line(result: Result) -> bytes:
    """Return a line of Anthropic's results."""
    if result.kind == "succeeded" and result.body is not None:
        told = b'{"type":"succeeded","message":%s}' % result.body
    elif result.kind == "errored":
        told = b'{"type":"errored","error":%s}' % _anthropic_error(result)
    else:
        told = orjson.dumps({"type": result.kind})
    return b'{"custom_id":%s,"result":%s}\n' % (orjson.dumps(result.custom_id), told)


def line_for(flavor: Flavor, result: Result) -> bytes:
    """Return the line of a result in the form of an API."""
    return anthropic_line(result) if flavor == "anthropic" else openai_line(result)


def _anthropic_error(result: Result) -> bytes:
    if result.body is not None:
        document = orjson.loads(result.body)
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            return result.body
    error: dict[str, Any] = {"type": "api_error", "message": result.message, "code": result.reason}
    return orjson.dumps({"type": "error", "error": error})


def _json(record: bytes) -> bytes | None:
    """Return an answer on one line; None where it is no JSON object."""
    try:
        document = orjson.loads(record)
    except orjson.JSONDecodeError:
        return None
    return on_one_line(record) if isinstance(document, dict) else None
