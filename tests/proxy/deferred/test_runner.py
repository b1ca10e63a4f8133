"""The runner claims as much as there are slots, and gives it back when it stops."""

import asyncio

import pytest
from structlog.testing import capture_logs

from proxy.deferred import runner as module
from proxy.deferred.run import Home, Run
from proxy.deferred.runner import Runner
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, respond
from proxy.kernel.journal import Claim
from proxy.kernel.running_terms import RunningTerms
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.stored_run import stored_run
from proxy.testing import ManualClock
from tests.proxy.deferred.test_run import frame
from tests.support import journals
from tests.support.runs import Failing, Told
from tests.support.slots import FakeSlots

TERMS = RunningTerms(attempts=3, parallel=64)


class Hosts(FakeSlots):
    """Slots that requests take by themselves, and hold until they may go on."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.running = self.most = 0
        self.served: list[str] = []
        self.go_on = asyncio.Event()
        self.began = asyncio.Condition()

    def any_free(self, *, if_asked: bool = False) -> bool:
        return self.running < self.count

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        run = stored_run(scope)
        assert run is not None
        self.running += 1
        self.most = max(self.most, self.running)
        run.placed()
        try:
            async with self.began:
                self.began.notify_all()
            await self.go_on.wait()
            self.served.append(run.id)
            await respond(send, 200, [], b"hi")
        finally:
            self.running -= 1
            self.changed()

    async def until(self, running: int) -> None:
        async with asyncio.timeout(10), self.began:
            await self.began.wait_for(lambda: self.running == running)


class Place:
    """A journal, hosts, and the runner between them."""

    def __init__(self, slots: int = 2, chain: ASGIApp | None = None) -> None:
        self.journal = Failing()
        self.hosts = Hosts(slots)
        self.runner = self.another(chain)

    def another(self, chain: ASGIApp | None = None) -> Runner:
        clock = ManualClock(journals.START)
        home = Home(self.journal, frame(chain or self.hosts.serve), clock, Told())
        runner = Runner(home, self.hosts)
        runner.use(TERMS)
        return runner

    async def put(self, count: int) -> list[str]:
        return [(await self.journal.add(journals.entry())).id for _ in range(count)]

    async def over(self, name: str) -> str:
        async with asyncio.timeout(10):
            entry = await self.journal.wait_for_change(name, 2**62, 10.0)
        assert entry is not None
        return entry.state


async def test_no_more_run_than_there_are_slots() -> None:
    place = Place(slots=2)
    names = await place.put(10)
    place.runner.start()
    await place.hosts.until(2)
    assert place.runner.running == 2
    place.hosts.go_on.set()
    assert [await place.over(name) for name in names] == ["completed"] * 10
    assert place.hosts.most == 2
    assert sorted(place.hosts.served) == sorted(names)  # each once
    await place.runner.stop(1.0)


async def test_no_more_run_than_the_terms_say_where_hosts_have_no_bound() -> None:
    place = Place(slots=1000)
    place.runner.use(RunningTerms(attempts=3, parallel=3))
    names = await place.put(6)
    place.runner.start()
    await place.hosts.until(3)
    place.hosts.go_on.set()
    assert [await place.over(name) for name in names] == ["completed"] * 6
    assert place.hosts.most == 3
    await place.runner.stop(1.0)


async def test_what_comes_later_is_found() -> None:
    place = Place()
    place.hosts.go_on.set()
    place.runner.start()
    for _ in range(3):
        assert await place.over((await place.put(1))[0]) == "completed"
    await place.runner.stop(1.0)


async def test_without_terms_nothing_runs() -> None:
    place = Place()
    place.hosts.go_on.set()
    place.runner.use(None)
    place.runner.start()
    (name,) = await place.put(1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert place.runner.running == 0
    place.runner.use(TERMS)
    assert await place.over(name) == "completed"
    await place.runner.stop(1.0)


async def test_claims_without_a_slot_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for a model whose slots are taken, while others are free."""
    monkeypatch.setattr(module, "SOON", 0.001)
    waiting = asyncio.Semaphore(0)
    count = 0

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal count
        count += 1
        waiting.release()
        await asyncio.Event().wait()

    place = Place(slots=1000, chain=chain)
    await place.put(20)
    place.runner.start()
    async with asyncio.timeout(10):
        for _ in range(module.PENDING):
            await waiting.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await waiting.acquire()
    assert place.runner.running == count == module.PENDING
    await place.runner.stop(0.0)
    assert await place.journal.counts() == {"queued": 20}


async def test_a_stop_lets_finish_what_runs_and_claims_no_more() -> None:
    place = Place(slots=1)
    first, second = await place.put(2)
    place.runner.start()
    await place.hosts.until(1)
    stopping = asyncio.create_task(place.runner.stop(10.0))
    await asyncio.sleep(0)
    place.hosts.go_on.set()
    await stopping
    states = [entry.state for name in (first, second) if (entry := await place.journal.get(name)) is not None]
    assert states == ["completed", "queued"]
    await place.runner.stop(0.0)  # a second time does no harm


async def test_a_journal_that_does_not_answer_is_asked_again() -> None:
    place = Place()
    place.hosts.go_on.set()
    claim, failures = place.journal.claim, [1]

    async def sometimes(owner: str, *, attempts: int, lost_after: float) -> Claim | None:
        if failures:
            failures.pop()
            raise StoreUnavailable("away")
        return await claim(owner, attempts=attempts, lost_after=lost_after)

    place.journal.claim = sometimes  # type: ignore[method-assign]
    (name,) = await place.put(1)
    place.runner.start()
    assert await place.over(name) == "completed"
    await place.runner.stop(1.0)


async def test_beats_are_one_call_and_end_what_is_fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOST_AFTER", 0.03)
    place = Place(slots=2)
    names = await place.put(2)
    calls: list[list[str]] = []
    called = asyncio.Event()

    async def beat(claims: list[Claim]) -> list[str]:
        calls.append([claim.entry.id for claim in claims])
        called.set()
        return [names[0]] if len(claims) == 2 else []

    place.journal.beat = beat  # type: ignore[assignment, method-assign]
    place.runner.start()
    await place.hosts.until(2)
    place.runner.use(None)
    async with asyncio.timeout(10):
        while place.runner.running != 1:
            called.clear()
            await called.wait()
            await asyncio.sleep(0)
    assert sorted(calls[0]) == sorted(names)
    await place.runner.stop(0.0)


async def test_a_bug_ends_one_run_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    place.hosts.go_on.set()
    perform, broken = Run.perform, [True]

    async def once(run: Run) -> bool:
        if broken:
            broken.pop()
            raise ZeroDivisionError
        return await perform(run)

    monkeypatch.setattr(Run, "perform", once)
    first, second = await place.put(2)
    with capture_logs() as logs:
        place.runner.start()
        assert await place.over(second) == "completed"
    assert [(line["event"], line["entry"]) for line in logs] == [("deferred_run_failed", first)]
    await place.runner.stop(1.0)


async def test_two_runners_share_the_work() -> None:
    place = Place(slots=4)
    names = await place.put(40)
    other = place.another()
    place.runner.start()
    other.start()
    place.hosts.go_on.set()
    assert [await place.over(name) for name in names] == ["completed"] * 40
    assert sorted(place.hosts.served) == sorted(names)
    await place.runner.stop(1.0)
    await other.stop(1.0)
