"""Responses that are kept in the journal, so that a later request can go on from them by ``previous_response_id``.

An answer of the Responses API is kept under the id that the backend gave it, with the whole input that it answers. A
backend counts such ids anew, and two callers may get the same one: so the entry's own id is made of the caller and it,
and of two responses with one id the caller gets the later. A response that ran as a request of the journal
(background mode) is found by its entry.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from proxy.kernel.journal import Claim, Journal, NewEntry, StoredCaller
from proxy.kernel.response_items import INPUT, PREVIOUS, merged_input

MOST_TURNS: Final = 100
"""Responses that one conversation may consist of."""
LONGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of a recorded answer that are read to go on from it."""

_ENTRY: Final = re.compile(r"resp_[0-9a-f]{32}\Z")
_LAST_EVENTS: Final = (b"event: response.completed\n", b"event: response.incomplete\n")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and what it answers.

    Attributes:
        input: the items that the model was given, those of earlier turns first.
        response: the response object, as the backend sent it.
        turns: the number of responses of the conversation, this one included.
    """

    input: list[Any]
    response: Mapping[str, Any]
    turns: int = 1

    def followed_by(self, new_input: object) -> list[Any]:
        """Return the input of a request that goes on from this response with `new_input`."""
        return merged_input(self.input, self.response.get("output") or (), new_input)


def entry_id(owner: str, response_id: str) -> str:
    """Return the id of the entry that keeps a response of `owner` (`StoredCaller.owner`) by the id it has for him."""
    named = f"{owner}\0{response_id}".encode(errors="surrogatepass")
    return f"resp_{sha256(named).hexdigest()[:32]}"


async def keep_response(
    journal: Journal, caller: StoredCaller, stored: StoredResponse, *, now: float, seconds: float
) -> None:
    """Keep a response for some seconds; raises JournalFull, Fenced and StoreUnavailable."""
    key = entry_id(caller.owner, str(stored.response.get("id")))
    document = {"input": stored.input, "response": stored.response, "turns": stored.turns}
    await journal.delete(key)
    entry = await journal.add(
        NewEntry(
            id=key,
            kind="live",
            caller=caller,
            body=orjson.dumps(document),
            flavor="openai",
            created_at=now,
            expires_at=now + seconds,
            meta={"response_id": stored.response.get("id")},
        )
    )
    await journal.finish(Claim(entry, b"", entry.fence), "completed")


async def find_response(
    journal: Journal, owner: str, response_id: str, *, turns: int = MOST_TURNS
) -> StoredResponse | None:
    """Return a response of `owner` that is kept and complete, else None; raises StoreUnavailable."""
    kept = await journal.body(entry_id(owner, response_id))
    if kept is not None:
        return StoredResponse(**orjson.loads(kept))
    if turns < 1 or not _ENTRY.match(response_id):
        return None
    entry = await journal.get(response_id)
    if entry is None or entry.kind != "request" or entry.state != "completed" or entry.caller.owner != owner:
        return None
    body, answer = await journal.body(response_id), await _record(journal, response_id)
    if body is None or (response := response_in(answer)) is None:
        return None
    return await _with_what_was_before(journal, owner, orjson.loads(body), response, turns)


async def _with_what_was_before(
    journal: Journal, owner: str, request: Mapping[str, Any], response: Mapping[str, Any], turns: int
) -> StoredResponse | None:
    named = request.get(PREVIOUS)
    if named is None:
        return StoredResponse(merged_input(None, (), request.get(INPUT)), response)
    before = await find_response(journal, owner, named, turns=turns - 1) if isinstance(named, str) else None
    if before is None:
        return None
    return StoredResponse(before.followed_by(request.get(INPUT)), response, before.turns + 1)


async def _record(journal: Journal, id: str) -> bytes:
    parts, length = [], 0
    while length < LONGEST_ANSWER and (part := await journal.read(id, length, LONGEST_ANSWER)):
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def response_in(answer: bytes) -> dict[str, Any] | None:
    """Return the response object of a whole answer, a JSON object or a stream of events; None where it has none.

    A response counts that is complete, or that stopped at a bound of its length.
    """
    try:
        if answer.lstrip()[:1] == b"{":
            response = orjson.loads(answer)
        else:
            at = max(map(answer.rfind, _LAST_EVENTS))
            if at < 0:
                return None
            line = answer[at:].split(b"\n", 2)[1]
            response = orjson.loads(line.removeprefix(b"data:")).get("response")
    except (orjson.JSONDecodeError, IndexError, AttributeError):
        return None
    whole = isinstance(response, dict) and response.get("status") in ("completed", "incomplete")
    return response if whole and isinstance(response.get("id"), str) else None
