"""proxy/journal/redis.py: the suite of all journals, and what only a shared one has to do."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.deferred import record_writer
from proxy.deferred.record_writer import RecordWriter
from proxy.journal.redis import RedisJournal
from proxy.kernel.journal import Claim, Fenced, Journal, JournalFull, NewEntry, Query, StoredCaller
from proxy.kernel.store import StoreUnavailable
from proxy.services.system_clock import SystemClock
from proxy.testing import ManualClock
from tests.support.backend import eventually
from tests.support.journals import (
    ANN,
    BOB,
    START,
    STEPS,
    JournalContract,
    Step,
    check_against_model,
    claim,
    entry,
    jain,
    state,
)
from tests.support.process import free_port
from tests.support.redis import RedisServer, Sentinel, redis_server, started


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server("--maxmemory-policy", "noeviction") as started:
        yield started


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.command("FLUSHALL")
    return running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def journal(server: RedisServer, clock: ManualClock) -> AsyncIterator[RedisJournal]:
    opened = RedisJournal(server.url, clock, server_time=False)
    await opened.connect()
    yield opened
    await opened.aclose()


@pytest.fixture
async def other(server: RedisServer, clock: ManualClock) -> AsyncIterator[RedisJournal]:
    opened = RedisJournal(server.url, clock, server_time=False)
    await opened.connect()
    yield opened
    await opened.aclose()


class TestRedisJournal(JournalContract):
    """Runs the suite."""


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(STEPS)
async def test_any_sequence_of_steps_does_what_the_model_does(running: RedisServer, steps: list[Step]) -> None:
    clock = ManualClock(START)
    running.command("FLUSHALL")
    async with opened(running.url, clock) as journal:
        await check_against_model(journal, clock, steps)


@asynccontextmanager
async def opened(url: str, clock: ManualClock | None = None) -> AsyncIterator[RedisJournal]:
    """A handle as another proxy has one; by the server's clock where none is given."""
    journal = RedisJournal(url, clock or SystemClock(), server_time=clock is None)
    await journal.connect()
    try:
        yield journal
    finally:
        await journal.aclose()


def now_entry(caller: StoredCaller = ANN, **fields: object) -> NewEntry:
    """An entry by the real clock."""
    return entry(caller, created_at=0.0, expires_at=SystemClock().time() + 600, **fields)


# Several proxies


async def test_an_entry_is_claimed_once_whoever_claims_and_in_fair_turns(server: RedisServer) -> None:
    """500 entries of five tenants, four that claim at once through two handles."""
    async with opened(server.url) as one, opened(server.url) as two:
        tenants = [StoredCaller(identity=name, tenant=name) for name in "abcde"]
        names = [(await one.add(now_entry(tenant, cost=10))).id for tenant in tenants for _ in range(100)]
        claimed: list[Claim] = []

        async def work(journal: Journal, owner: str) -> None:
            while (held := await journal.claim(owner, attempts=3, lost_after=60)) is not None:
                claimed.append(held)
                await journal.append(held, b"x")
                await journal.finish(held, "completed")

        await asyncio.gather(work(one, "1"), work(one, "2"), work(two, "3"), work(two, "4"))
        assert sorted(held.entry.id for held in claimed) == sorted(names)
        half = Counter(held.entry.caller.tenant for held in claimed[:250])
        assert jain(list(half.values())) >= 0.95
        assert dict(await two.counts()) == {"completed": 500}


async def test_an_owner_is_lost_by_the_clock_of_the_server(server: RedisServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        new = await one.add(now_entry())
        stale = await claim(one, lost_after=60)
        await one.append(stale, b"half")
        held = await claim(two, lost_after=0)
        assert (held.entry.id, held.fence, held.entry.recorded) == (new.id, 2, 0)
        assert await one.beat([stale]) == [new.id]
        for write in (one.append(stale, b"x"), one.begin(stale, 200, []), one.release(stale)):
            with pytest.raises(Fenced):
                await write
        await two.append(held, b"whole")
        assert await one.read(new.id, 0, 9) == b"whole"


async def test_who_recorded_live_and_is_gone_is_found_by_another(server: RedisServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        new = await one.add(now_entry(kind="live"))
        assert await one.beat([Claim(new, b"", 1)]) == []
        assert await two.claim("two", attempts=3, lost_after=60) is None
        assert await state(two, new.id) == "running"
        assert await two.claim("two", attempts=3, lost_after=0) is None
        ended = await one.get(new.id)
        assert ended is not None
        assert (ended.state, (ended.error or "").partition(":")[0]) == ("failed", "owner_lost")


async def test_a_claim_that_is_cancelled_is_given_back(server: RedisServer) -> None:
    async with opened(server.url) as one:
        new = await one.add(now_entry())
        server.freeze()
        claiming = asyncio.create_task(one.claim("one", attempts=1, lost_after=60))
        await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.sleep(0)
        server.thaw()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        held = await claim(one, attempts=1)
        assert (held.entry.id, held.entry.attempts) == (new.id, 1)


async def test_the_group_says_which_process_has_what(server: RedisServer) -> None:
    async with opened(server.url) as one:
        await one.add(now_entry())
        held = await claim(one)
        stream = "ollama-proxy:{journal-0}:stream:of red"
        assert b"\r\none\r\n" in server.command("XPENDING", stream, "owners", "-", "+", "10")
        await one.finish(held, "completed")
        assert server.command("EXISTS", stream) == b":0\r\n"


async def test_every_key_has_a_time_to_live(server: RedisServer) -> None:
    async with opened(server.url) as one:
        for caller in (ANN, BOB):
            batch = await one.add(now_entry(caller, kind="batch", idempotency_key="b"))
            for number in range(4):
                await one.add(now_entry(caller, parent=batch.id, priority=number % 2))
        for _ in range(3):
            held = await claim(one)
            await one.append(held, b"x")
            await one.finish(held, "completed")
        await one.release(await claim(one), again_after=100)
        await claim(one)
        keys = server.command("KEYS", "*").decode().split("\r\n")
        names = [name for name in keys if name.startswith("ollama-proxy:")]
        assert len(names) > 30
        assert [name for name in names if server.command("TTL", name) == b":-1\r\n"] == []


async def test_long_lists_are_read_in_pages(journal: RedisJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.journal.redis.AT_ONCE", 7)
    batch = await journal.add(entry(kind="batch"))
    names = [(await journal.add(entry((ANN, BOB)[number % 2], parent=batch.id))).id for number in range(40)]
    found = await journal.entries(Query(owner=BOB.owner, limit=30))
    assert [one.id for one in found] == names[1::2][::-1]
    assert len(await journal.entries(Query(states=("queued",), kinds=("request",), limit=1000))) == 40
    await journal.cancel(batch.id, "no")
    assert dict(await journal.children(batch.id)) == {"cancelled": 40}
    assert await journal.purge(["cancelled"]) == 40


async def test_each_step_of_a_run_is_one_call(server: RedisServer) -> None:
    async with opened(server.url) as journal:
        await _run(journal)  # which loads the scripts

        def calls() -> int:
            stats = server.command("INFO", "commandstats").decode()
            return int(stats.partition("cmdstat_evalsha:calls=")[2].partition(",")[0])

        before = calls()
        await _run(journal)
        assert calls() - before == 6
        assert b"cmdstat_eval:" not in server.command("INFO", "commandstats")


async def _run(journal: Journal) -> None:
    await journal.add(now_entry())
    held = await claim(journal)
    await journal.begin(held, 200, [])
    await journal.append(held, b"x")
    await journal.read(held.entry.id, 0, 9)
    await journal.finish(held, "completed")


# Faults: what holds for each is in the docstring of proxy/journal/redis.py


BOUND = 10.0
"""Seconds within which whatever happens to the server, no call is left waiting."""


async def test_a_restart_with_an_appended_file_keeps_all(tmp_path: Path) -> None:
    with redis_server("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path)) as server:
        async with opened(server.url) as journal:
            names = [(await journal.add(now_entry())).id for _ in range(50)]
            held = await claim(journal)
            await journal.append(held, b"half")
            server.kill()
            await asyncio.to_thread(server.start)
            await eventually(lambda: " up" in repr(journal))
            await _until_it_answers(journal)
            assert [await state(journal, name) for name in names] == ["running", *["queued"] * 49]
            assert await journal.append(held, b" and half") == 13
            assert (await journal.finish(held, "completed")).recorded == 13


async def test_flushed(server: RedisServer) -> None:
    async with opened(server.url) as journal, asyncio.timeout(BOUND):
        new = await journal.add(now_entry())
        held = await claim(journal)
        await journal.append(held, b"half")
        waits = asyncio.create_task(journal.wait_for_change(new.id, 4, 3600))
        await eventually(
            lambda: server.command("PUBSUB", "NUMSUB", f"ollama-proxy:journal:{new.id}").endswith(b":1\r\n")
        )
        server.command("FLUSHALL")
        server.command("SCRIPT", "FLUSH")
        for write in (journal.append(held, b"x"), journal.begin(held, 200, []), journal.finish(held, "completed")):
            with pytest.raises(Fenced):
                await write
        assert await journal.beat([held]) == [new.id]
        assert await waits is None
        assert await journal.get(new.id) is None
        assert not await journal.counts()
        assert await state(journal, (await journal.add(now_entry())).id) == "queued"
        assert (await claim(journal)).fence == 1


async def test_full(server: RedisServer) -> None:
    """Words are refused as full; what reads, ends and frees goes on."""
    async with opened(server.url) as journal, asyncio.timeout(BOUND):
        done, waiting = await journal.add(now_entry(BOB)), await journal.add(now_entry(priority=-1))
        held = await claim(journal)
        await journal.append(held, b"half")
        assert held.entry.id == done.id
        try:
            assert server.command("CONFIG", "SET", "maxmemory", "1") == b"+OK\r\n"
            for write in (journal.add(now_entry()), journal.append(held, b"x")):
                with pytest.raises(JournalFull) as caught:
                    await write
                assert caught.value.bound == "bytes"
            with pytest.raises(StoreUnavailable):
                await journal.claim("one", attempts=3, lost_after=60)
            assert await journal.read(done.id, 0, 9) == b"half"
            assert await journal.beat([held]) == []
            assert (await journal.finish(held, "failed", error="answer_too_long: x")).state == "failed"
            assert dict(await journal.counts()) == {"failed": 1, "queued": 1}
            assert await journal.cancel(waiting.id, "no") is not None
            assert await journal.delete(done.id)
            assert await journal.purge(["cancelled"]) == 1
            assert " up" in repr(journal)
        finally:
            server.command("CONFIG", "SET", "maxmemory", "0")
        await journal.add(now_entry())


async def _until_it_answers(journal: Journal) -> None:
    while True:
        try:
            await journal.counts()
            return
        except StoreUnavailable:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", ["refused", "black-holed", "demoted"])
async def test_unreachable(fault: str, tmp_path: Path) -> None:
    """Every call fails within its time, at once after the first; what was there is there when it is back."""
    with redis_server("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path)) as server:
        journal = RedisJournal(server.url, SystemClock(), within=0.2)
        await journal.connect()
        try:
            async with asyncio.timeout(BOUND):
                new = await journal.add(now_entry())
                held = await claim(journal)
                await journal.append(held, b"half")
                waits = asyncio.create_task(journal.wait_for_change(new.id, 4, 3600))
                works = asyncio.create_task(journal.wait_for_work(3600))
                if fault == "refused":
                    server.kill()
                elif fault == "black-holed":
                    server.freeze()
                else:
                    server.command("REPLICAOF", "127.0.0.1", "1")
                with pytest.raises(StoreUnavailable):
                    await journal.add(now_entry())
                began = perf_counter()
                for call in (
                    journal.add(now_entry()),
                    journal.claim("one", attempts=3, lost_after=60),
                    journal.append(held, b"x"),
                    journal.beat([held]),
                    journal.get(new.id),
                    journal.read(new.id, 0, 9),
                    journal.entries(Query()),
                ):
                    with pytest.raises(StoreUnavailable):
                        await call
                assert perf_counter() - began < 0.2 * 7  # none has waited for its time
                if fault != "demoted":
                    with pytest.raises(StoreUnavailable):
                        await waits
                if fault == "refused":
                    await asyncio.to_thread(server.start)
                elif fault == "black-holed":
                    server.thaw()
                else:
                    server.command("REPLICAOF", "NO", "ONE")
                await eventually(lambda: " up" in repr(journal))
                assert await journal.append(held, b" and half") == 13
                assert (await journal.finish(held, "completed")).recorded == 13
                if fault == "demoted":
                    await asyncio.gather(waits, return_exceptions=True)
                works.cancel()
                await asyncio.gather(works, return_exceptions=True)
                again = asyncio.create_task(journal.wait_for_change(new.id, 99, 3600))
                assert (await again) is not None
        finally:
            await journal.aclose()


class LateNetwork:
    """A way to the server. What is sent from `leave` on arrives at `arrive`; later connections pass.

    Attributes:
        url: where it begins.
    """

    def __init__(self, server: RedisServer) -> None:
        self._port = server.port
        self._away = False
        self._back = asyncio.Event()
        self._answered = asyncio.Event()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._carry, "127.0.0.1", 0) as relay:
            self.url = f"redis://127.0.0.1:{relay.sockets[0].getsockname()[1]}/0"
            yield

    def leave(self) -> None:
        self._away = True

    def pass_new_ones(self) -> None:
        self._away = False

    async def arrive(self) -> None:
        """Deliver what was held, and return when the server has answered it."""
        self._back.set()
        await self._answered.wait()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        while data := await reader.read(65536):
            held = self._away
            if held:
                await self._back.wait()
            to_server.write(data)
            answer = await from_server.read(65536)
            if held:
                self._answered.set()
                break
            writer.write(answer)
        to_server.close()
        writer.close()


async def test_a_part_that_the_network_delivers_late_is_recorded_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_writer, "PAUSE", 0.01)
    network = LateNetwork(server)
    async with network.run(), opened(server.url) as reader, asyncio.timeout(BOUND):
        journal = RedisJournal(network.url, SystemClock(), within=0.2)
        await journal.connect()
        new = await journal.add(now_entry())
        held = await claim(journal)
        writer = RecordWriter(journal, held)
        writer.begin(200, [])
        writer.take(b"one, ")
        await writer.end(keep=True)
        network.leave()
        writer.take(b"two, ")
        await eventually(lambda: " up" not in repr(journal))
        network.pass_new_ones()  # and what the old one has sent is still on its way
        await writer.end(keep=True)
        await network.arrive()
        writer.take(b"three")
        await writer.end(keep=True)
        assert writer.error is None
        await journal.aclose()
        assert await reader.read(new.id, 0, 99) == b"one, two, three"


async def test_a_reader_hears_again_after_the_server_was_lost(server: RedisServer) -> None:
    async with opened(server.url) as journal, asyncio.timeout(BOUND):
        new = await journal.add(now_entry())
        held = await claim(journal)
        waits = asyncio.create_task(journal.wait_for_change(new.id, 0, 3600))
        channel = f"ollama-proxy:journal:{new.id}"
        await eventually(lambda: server.command("PUBSUB", "NUMSUB", channel).endswith(b":1\r\n"))
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: server.command("PUBSUB", "NUMSUB", channel).endswith(b":1\r\n"))
        await journal.append(held, b"x")
        changed = await waits
        assert changed is not None
        assert changed.recorded == 1


async def test_failed_over(tmp_path: Path) -> None:
    with redis_server() as primary, redis_server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        await eventually(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        with started(Sentinel(tmp_path, primary)) as sentinel:
            await eventually(lambda: str(replica.port).encode() in sentinel.command("SENTINEL", "replicas", "main"))
            async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/main") as journal, asyncio.timeout(50):
                new = await journal.add(now_entry())
                held = await claim(journal)
                await journal.append(held, b"half")
                key = f"ollama-proxy:{{journal-0}}:record:{new.id}"
                await eventually(lambda: b"half" in replica.command("GET", key))
                waits = asyncio.create_task(journal.wait_for_change(new.id, 4, 3600))
                primary.kill()
                with pytest.raises(StoreUnavailable):
                    await journal.add(now_entry())
                await asyncio.gather(waits, return_exceptions=True)
                await eventually(lambda: " up" in repr(journal))
                waits = asyncio.create_task(journal.wait_for_change(new.id, 4, 3600))
                assert await journal.append(held, b" and half") == 13
                changed = await waits
                assert changed is not None
                assert changed.recorded == 13
                assert (await journal.finish(held, "completed")).state == "completed"


async def test_of_two_claims_with_one_number_the_older_writes_nothing(tmp_path: Path) -> None:
    """A replica that takes over without the last moments gives the same number again."""
    with redis_server() as primary, redis_server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        await eventually(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        async with opened(primary.url) as before, opened(replica.url) as after, asyncio.timeout(BOUND):
            new = await before.add(now_entry())
            key = f"ollama-proxy:{{journal-0}}:entry:{new.id}"
            await eventually(lambda: replica.command("EXISTS", key) == b":1\r\n")
            replica.command("REPLICAOF", "NO", "ONE")
            forgotten = await claim(before)
            await eventually(lambda: " up" in repr(after))
            held = await claim(after)
            assert (held.entry.id, held.fence) == (forgotten.entry.id, forgotten.fence)
            for write in (
                after.begin(forgotten, 200, []),
                after.append(forgotten, b"x"),
                after.finish(forgotten, "completed"),
                after.release(forgotten),
            ):
                with pytest.raises(Fenced):
                    await write
            assert await after.beat([forgotten, held]) == [new.id]
            assert await after.append(held, b"half") == 4


async def test_a_record_of_which_the_server_has_lost_a_part_is_not_written_on_nor_completed(
    server: RedisServer, journal: RedisJournal
) -> None:
    """As a replica that takes over may have less than what was written."""
    for kept in ("ha", ""):
        new = await journal.add(entry())
        held = await claim(journal)
        assert await journal.append(held, b"half") == 4
        server.command("SET", f"ollama-proxy:{{journal-0}}:record:{new.id}", kept)
        with pytest.raises(Fenced):
            await journal.append(held, b" and half", at=4)
        with pytest.raises(Fenced):
            await journal.finish(held, "completed", at=4)
        assert await state(journal, new.id) == "running"
        await journal.cancel(new.id, "enough")


# A cluster


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[RedisServer]:
    config = ("--cluster-config-file", str(folder / "nodes.conf"), "--cluster-port", str(free_port()))
    with redis_server("--cluster-enabled", "yes", *config) as node:
        assert node.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"
        await eventually(lambda: b"cluster_state:ok" in node.command("CLUSTER", "INFO"))
        yield node


async def test_a_cluster_has_its_tenants_in_several_slots_and_one_line(tmp_path: Path) -> None:
    async with cluster(tmp_path) as node:
        url = f"redis+cluster://127.0.0.1:{node.port}"
        async with opened(url) as one, opened(url) as two:
            tenants = [StoredCaller(identity=f"t{number}", tenant=f"t{number}") for number in range(12)]
            names = [(await one.add(now_entry(tenant, cost=5))).id for tenant in tenants for _ in range(10)]
            assert len({one._partitions.of(f"of t{number}") for number in range(12)}) > 4
            had: Counter[str | None] = Counter()
            claimed = []
            for number in range(60):
                held = await claim((one, two)[number % 2])
                had[held.entry.caller.tenant] += 1
                claimed.append(held.entry.id)
                await two.append(held, b"abc")
                await one.finish(held, "completed")
            assert jain([had[tenant.tenant] for tenant in tenants]) >= 0.95
            assert len(set(claimed)) == 60
            assert await two.read(claimed[0], 1, 5) == b"bc"
            assert dict(await two.counts()) == {"completed": 60, "queued": 60}
            assert [found.id for found in await two.entries(Query(limit=3))] == names[:-4:-1]
            assert len(await two.entries(Query(after=names[5], limit=100))) == 5
            late = StoredCaller(identity="late", tenant="late")
            for _ in range(20):
                await one.add(now_entry(late, cost=5))
            had = Counter([(await claim(two)).entry.caller.tenant for _ in range(26)])
            assert had["late"] <= 4
            with pytest.raises(JournalFull):
                await one.add(now_entry(late, most=5))


async def test_a_cluster_passes_the_suite_of_bounds_and_faults(tmp_path: Path) -> None:
    async with cluster(tmp_path) as node, asyncio.timeout(30):
        async with opened(f"redis+cluster://127.0.0.1:{node.port}") as journal:
            first = await journal.add(now_entry(idempotency_key="k"))
            assert (await journal.add(now_entry(idempotency_key="k"))).id == first.id
            held = await claim(journal)
            waits = asyncio.create_task(journal.wait_for_change(first.id, 0, 3600))
            await eventually(
                lambda: node.command("PUBSUB", "NUMSUB", f"ollama-proxy:journal:{first.id}").endswith(b":1\r\n")
            )
            await journal.append(held, b"x")
            changed = await waits
            assert changed is not None
            assert changed.recorded == 1
            assert await journal.get("0" * 32) is None
            assert await journal.delete(first.id)
            with pytest.raises(Fenced):
                await journal.append(held, b"x")
