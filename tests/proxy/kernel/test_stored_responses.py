from typing import Any

import orjson
import pytest

from proxy.journal.memory import MemoryJournal
from proxy.kernel.journal import Journal, NewEntry, StoredCaller
from proxy.kernel.stored_responses import StoredResponse, entry_id, find_response, keep_response, response_in
from proxy.testing.clocks import ManualClock

ALICE = StoredCaller(identity="alice")
OUTPUT = [{"type": "message", "role": "assistant", "content": []}]
HI = {"type": "message", "role": "user", "content": "hi"}


def response(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "object": "response", "status": "completed", "output": OUTPUT, **more}


def stream(last: dict[str, Any], kind: str = "response.completed") -> bytes:
    data = orjson.dumps({"type": kind, "response": last})
    return b'event: response.created\ndata: {"response":{}}\n\nevent: %b\ndata: %b\n\n' % (kind.encode(), data)


async def keep(journal: Journal, stored: StoredResponse, seconds: float = 60) -> None:
    await keep_response(journal, ALICE, stored, now=ManualClock().time(), seconds=seconds)


async def test_a_response_is_found_by_who_sent_the_request() -> None:
    journal = MemoryJournal(ManualClock())
    await keep(journal, StoredResponse([HI], response("resp_1"), 3))
    assert await find_response(journal, ALICE.owner, "resp_1") == StoredResponse([HI], response("resp_1"), 3)
    assert await find_response(journal, "by bob", "resp_1") is None
    assert await find_response(journal, ALICE.owner, "resp_2") is None


async def test_of_two_with_one_id_the_later_counts() -> None:
    journal = MemoryJournal(ManualClock())
    await keep(journal, StoredResponse([HI], response("resp_1")))
    await keep(journal, StoredResponse([HI, HI], response("resp_1")))
    found = await find_response(journal, ALICE.owner, "resp_1")
    assert found is not None
    assert found.input == [HI, HI]


async def test_it_is_kept_for_its_time() -> None:
    clock = ManualClock()
    journal = MemoryJournal(clock)
    await keep_response(journal, ALICE, StoredResponse([], response("r")), now=clock.time(), seconds=60)
    clock.advance(61)
    assert await find_response(journal, ALICE.owner, "r") is None


async def run(journal: Journal, number: int, request: dict[str, Any], answer: bytes) -> str:
    """Let a request of the journal run, and return its id."""
    name = f"resp_{number:032x}"
    body, later = orjson.dumps(request), 2e12
    await journal.add(NewEntry(id=name, kind="request", caller=ALICE, body=body, expires_at=later))
    claim = await journal.claim("me", attempts=3, lost_after=60)
    assert claim is not None
    await journal.append(claim, answer)
    await journal.finish(claim, "completed")
    return name


async def test_a_background_response_is_found_with_what_was_before_it() -> None:
    journal = MemoryJournal(ManualClock())
    first = await run(journal, 1, {"input": "hi"}, orjson.dumps(response("of the backend")))
    second = await run(journal, 2, {"input": [HI], "previous_response_id": first}, stream(response("its next")))
    found = await find_response(journal, ALICE.owner, second)
    assert found is not None
    assert found.input == [HI, *OUTPUT, HI]
    assert found.followed_by("hi") == [HI, *OUTPUT, HI, *OUTPUT, HI]
    assert found.turns == 2
    assert await find_response(journal, "by bob", second) is None
    assert await find_response(journal, ALICE.owner, second, turns=1) is None


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (orjson.dumps(response("r")), True),
        (stream(response("r")), True),
        (stream(response("r", status="incomplete"), "response.incomplete"), True),
        (stream(response("r"), "response.failed"), False),
        (stream(response("r"))[:-40], False),
        (orjson.dumps(response("r", status="failed")), False),
        (orjson.dumps({"error": {}}), False),
        (b"", False),
        (b"event: response.completed\n", False),
    ],
)
def test_the_response_of_an_answer(answer: bytes, found: bool) -> None:
    assert (response_in(answer) is not None) is found


def test_the_id_of_an_entry_tells_callers_apart() -> None:
    assert len({entry_id("by a", "b"), entry_id("by ab", ""), entry_id("at a", "b"), entry_id("by a", "\ud800")}) == 4
