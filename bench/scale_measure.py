"""What a command of ours costs a Redis server: the CPU time of its process, by call, on this machine."""

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from secrets import token_hex
from time import time
from typing import Final

from redis.asyncio import Redis

from proxy.journal.redis import RedisJournal
from proxy.kernel.journal import Claim, NewEntry, StoredCaller
from proxy.kernel.quotas import Quota, Reservation, Window
from proxy.kernel.units import Rate
from proxy.services.system_clock import SystemClock
from proxy.stores.redis import RedisStore

CALLERS: Final = 8
"""Calls at a time, as a proxy makes them."""
ROUNDS: Final = 5
TENANTS: Final = 1000
BODY: Final = b'{"model": "llama3.2", "messages": [{"role": "user", "content": "%s"}]}' % (b"x" * 1000)
CHUNKS: Final = b'{"model":"llama3.2","message":{"role":"assistant","content":"word"},"done":false}\n' * 25
"""What one append writes: a quarter of a second of a stream of 100 chunks a second."""

Call = Callable[[int], Awaitable[object]]


async def measure(calls: int) -> dict[str, float]:
    """Return microseconds of the server's CPU by name of a command, each of which is called so often.

    ``bytes`` is the memory of a queued entry beyond its body.
    """
    async with _server() as url:
        found: dict[str, float] = {}
        client = Redis.from_url(url)
        meter = _Meter(client, calls, found)
        await meter.run("ping", lambda _: client.ping())
        await _limits(url, meter)
        await _journal(url, meter)
        await client.aclose()
    return found


class _Meter:
    """Runs calls, and notes what they have cost the server."""

    def __init__(self, client: Redis, calls: int, found: dict[str, float]) -> None:
        self._client = client
        self._calls = calls
        self._found = found

    async def run(self, name: str, call: Call) -> None:
        """Note what a call costs: the least of several rounds, as whatever disturbs a round adds to it."""
        await call(0)  # which loads the script
        numbers = iter(range(1, self._calls + 1))
        per_round = self._calls // ROUNDS

        async def caller() -> None:
            for number in islice(numbers, per_round // CALLERS):
                await call(number)

        rounds = []
        for _ in range(ROUNDS):
            before = await self._used()
            await asyncio.gather(*(caller() for _ in range(CALLERS)))
            rounds.append((await self._used() - before) / (per_round // CALLERS * CALLERS) * 1e6)
        self._found[name] = round(min(rounds), 1)

    async def memory(self) -> int:
        """Return the bytes that the server has in use."""
        return int((await self._client.info("memory"))["used_memory"])

    async def note_bytes(self, before: int, body: int) -> None:
        """Note the memory of what was added since."""
        self._found["bytes"] = round((await self.memory() - before) / self._calls - body)

    async def _used(self) -> float:
        cpu = await self._client.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


async def _limits(url: str, meter: _Meter) -> None:
    store = RedisStore(url, SystemClock(), within=5)
    await store.connect()
    window = (Window(Rate.parse("1000/minute")),)
    held: list[Reservation] = []

    async def admit(number: int) -> None:
        quota = Quota(f"t{number % TENANTS}", window, (Window(Rate.parse("100000/minute")),), 50)
        admission = await store.admit([quota], 100)
        if admission.reservation is not None:
            held.append(admission.reservation)

    async def settle(_: int) -> None:
        done = store.settle(held.pop(), 90)
        if done is not None:
            await done

    await meter.run("admit", admit)
    await meter.run("settle", settle)
    await store.aclose()


async def _journal(url: str, meter: _Meter) -> None:
    journal = RedisJournal(url, SystemClock())
    await journal.connect()
    claims: list[Claim] = []
    ended: list[str] = []

    async def add(number: int) -> None:
        tenant = f"t{number % TENANTS}"
        await journal.add(
            NewEntry(
                id=token_hex(16),
                kind="request",
                caller=StoredCaller(identity=tenant, tenant=tenant),
                path="/api/chat",
                body=BODY,
                model="llama3.2",
                expires_at=time() + 3600,
                most_per_owner=10**6,
                most=10**6,
            )
        )

    async def claim(_: int) -> None:
        claimed = await journal.claim("bench", attempts=3, lost_after=3600)
        if claimed is not None:
            claims.append(claimed)

    async def finish(_: int) -> None:
        held = claims.pop()
        ended.append(held.entry.id)
        await journal.finish(held, "completed")

    before = await meter.memory()
    await meter.run("add", add)
    await meter.note_bytes(before, len(BODY))
    await meter.run("claim", claim)
    await meter.run("append", lambda number: journal.append(claims[number % len(claims)], CHUNKS))
    await meter.run("beat", lambda number: journal.beat([claims[number % len(claims)]]))
    await meter.run("read", lambda number: journal.read(claims[number % len(claims)].entry.id, 0, len(CHUNKS)))
    await meter.run("finish", finish)
    await journal.aclose()


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    """Run a Redis server of our own, without persistence; yield its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise FileNotFoundError("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", tempfile.gettempdir())
    process = await asyncio.create_subprocess_exec(
        binary, "--port", str(port), *options, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await _answering(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        await process.wait()


async def _answering(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return
