"""One run: what its request is, what becomes of its answer, and how it is ended."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from proxy.chain.frame import Frame, Generation
from proxy.deferred import record_writer, run
from proxy.deferred.run import Home, Run
from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import ATTEMPTS, RUN_BY
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, respond
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.errors import Refused
from proxy.kernel.inner_request import stored_caller
from proxy.kernel.journal import Claim, Entry
from proxy.kernel.routes import RouteTable
from proxy.kernel.stored_run import stored_run
from proxy.testing import ManualClock
from proxy.testing.exchanges import SETTINGS
from proxy.wiring import body_bounds
from tests.support import journals
from tests.support.runs import ALICE, Failing, Told, claimed, record


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (record_writer, run):
        monkeypatch.setattr(module, "PAUSE", 0.001)


def frame(chain: ASGIApp) -> Frame:
    return Frame(Generation(1, chain, RouteTable()), bodies=BodyBudget(**body_bounds(SETTINGS)))


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, [(b"content-type", b"x"), (b"content-length", b"2"), (b"set-cookie", b"a=b")], b"hi")


class Runs:
    """A journal, and the run of an entry in it through a chain."""

    def __init__(self, chain: ASGIApp = answering) -> None:
        self.journal = Failing()
        self.clock = ManualClock(journals.START)
        self.told = Told()
        self.home = Home(self.journal, frame(chain), self.clock, self.told)
        self.news = asyncio.Event()

    def of(self, claim: Claim) -> Run:
        return Run(claim, self.home, self.news)

    async def end(self, claim: Claim) -> Entry:
        """Perform the run of a claim, and return its entry."""
        await self.of(claim).perform()
        entry = await self.journal.get(claim.entry.id)
        assert entry is not None
        return entry


async def test_the_answer_is_in_the_record() -> None:
    runs = Runs()
    claim = await claimed(runs.journal)
    entry = await runs.end(claim)
    assert (entry.state, entry.status, await record(runs.journal, entry.id)) == ("completed", 200, b"hi")
    assert entry.answer_headers == (("content-type", "x"),)
    assert [told.id for told in runs.told.entries] == [entry.id]


async def test_the_request_is_what_was_stored() -> None:
    seen: dict[str, Any] = {}

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        ran = stored_run(scope)
        assert ran is not None
        ran.placed()
        seen.update(
            path=scope["path"],
            query=scope["query_string"],
            headers=scope["headers"],
            body=message["body"],
            caller=stored_caller(scope),
            run=(ran.id, ran.priority),
            client=scope["client"][0],
        )
        await answering(scope, receive, send)

    runs = Runs(chain)
    claim = await claimed(runs.journal, query="a=b", headers=(("accept", "é"),), priority=-10)
    await runs.end(claim)
    assert seen == {
        "path": "/api/chat",
        "query": b"a=b",
        "headers": [(b"accept", "é".encode("latin-1")), (b"content-length", b"21")],
        "body": b'{"model": "llama3.2"}',
        "caller": ALICE,
        "run": (claim.entry.id, -10),
        "client": "10.0.0.1",
    }
    assert runs.news.is_set()


def refusing(status: int, code: codes.Code, **headers: str) -> ASGIApp:
    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(status, "no", code=code, headers={name.replace("_", "-"): text for name, text in headers.items()})

    return chain


async def test_what_finds_no_room_comes_again_when_it_is_told_to() -> None:
    runs = Runs(refusing(503, codes.QUEUE_FULL, retry_after="7"))
    claim = await claimed(runs.journal)
    entry = await runs.end(claim)
    assert (entry.state, entry.attempts, entry.status, entry.recorded) == ("queued", 0, None, 0)
    assert runs.told.entries == []
    assert await runs.journal.claim("b", attempts=3, lost_after=30.0) is None


async def test_what_is_refused_for_good_has_failed_and_says_why() -> None:
    runs = Runs(refusing(403, codes.MODEL_NOT_ALLOWED))
    entry = await runs.end(await claimed(runs.journal))
    assert (entry.state, entry.status, entry.error) == ("failed", 403, "model_not_allowed: no")
    assert b'"code":"model_not_allowed"' in await record(runs.journal, entry.id)


async def test_a_bug_is_tried_again_and_then_dead() -> None:
    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    runs = Runs(chain)
    entry = await runs.end(await claimed(runs.journal, meta={ATTEMPTS: 1}))
    assert (entry.state, entry.status) == ("dead", 500)


async def test_whose_time_is_over_is_not_run() -> None:
    runs = Runs(refusing(500, codes.REFUSED))
    entry = await runs.end(await claimed(runs.journal, meta={RUN_BY: journals.START - 1}))
    assert (entry.state, entry.status) == ("expired", None)


def endless(began: asyncio.Event) -> ASGIApp:
    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await asyncio.Event().wait()

    return chain


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_who_loses_the_entry_is_stopped_at_once(how: str) -> None:
    began = asyncio.Event()
    runs = Runs(endless(began))
    claim = await claimed(runs.journal)
    task = asyncio.create_task(runs.of(claim).perform())
    await began.wait()
    if how == "cancel":
        await runs.journal.cancel(claim.entry.id, "enough")
    else:
        await runs.journal.delete(claim.entry.id)
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done == {task}
    assert task.result()
    entry = await runs.journal.get(claim.entry.id)
    assert (entry.state if entry is not None else None) == ("cancelled" if how == "cancel" else None)
    assert runs.journal.calls == []


async def test_a_process_that_stops_gives_its_entry_back() -> None:
    began = asyncio.Event()
    runs = Runs(endless(began))
    claim = await claimed(runs.journal)
    one = runs.of(claim)
    task = asyncio.create_task(one.perform())
    await began.wait()
    one.stop()
    assert not await task
    entry = await runs.journal.get(claim.entry.id)
    assert entry is not None
    assert (entry.state, entry.attempts) == ("queued", 0)


async def test_an_answer_that_is_too_long_ends_the_run() -> None:
    gone = asyncio.Event()

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
                await asyncio.sleep(0)
        finally:
            gone.set()

    runs = Runs(chain)
    entry = await runs.end(await claimed(runs.journal, most_answer=1000))
    assert gone.is_set()
    assert entry.state == "failed"
    assert (entry.error or "").startswith("answer_too_long: ")


async def test_an_end_that_the_journal_misses_is_told_again() -> None:
    runs = Runs()
    claim = await claimed(runs.journal)
    runs.journal.before.append("finish")
    assert (await runs.end(claim)).state == "completed"


async def test_an_end_that_the_journal_took_without_saying_so() -> None:
    runs = Runs()
    claim = await claimed(runs.journal)
    runs.journal.after.append("finish")
    assert (await runs.end(claim)).state == "completed"


async def test_a_run_is_freed_when_it_ends() -> None:
    runs = Runs()
    one = runs.of(await claimed(runs.journal))
    gone = weakref.ref(one)
    gc.disable()
    try:
        await one.perform()
        del one
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
