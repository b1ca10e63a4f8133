"""The clients and the clocks: puts one profile's load on one address and says what was measured, as JSON.

The load is open: requests start when they are due, not when the answer before came, so a slow target is not spared.
"""

import asyncio
import re
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Final, Self, cast

import orjson
import uvloop

from bench.meter import cpu_ns, rss_bytes
from bench.plan import DIGITS, HOST, MARK, MODEL, Profile

PATIENCE: Final = 15.0
"""Seconds until an answer that has not ended counts as an error."""
FEW_CHUNKS: Final = 3
"""Chunks of a stream of which only the first is of interest."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Attributes:
        port: where the target listens.
        key: the caller's API key; everybody is sent it, whether it is checked or not.
        target: the processes whose CPU time and memory are measured; none for no proxy.
        backend: the process of the fake backend.
    """

    profile: Profile
    port: int
    key: str
    target: list[int]
    backend: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 99th percentile of many times, nanoseconds."""

    p50: int
    p99: int

    @classmethod
    def of(cls, times: list[int]) -> Self | None:
        """Return the spread of `times`, None where there are none."""
        times.sort()
        return cls(times[len(times) // 2], times[len(times) * 99 // 100]) if times else None


@dataclass(slots=True)
class Measured:
    """What was measured. Memory in bytes, CPU time in nanoseconds by target, backend and clients.

    Attributes:
        transit: from the backend's write to the client's read of a chunk.
        first: from the request to the first chunk.
        whole: from the request to the end of the answer.
        shares: the CPU time of each process of the target.
    """

    seconds: float = 0.0
    chunks: int = 0
    requests: int = 0
    errors: int = 0
    late: int = 0
    cpu: dict[str, int] = field(default_factory=dict)
    rss_before: int = 0
    rss: int = 0
    transit: Spread | None = None
    first: Spread | None = None
    whole: Spread | None = None
    shares: list[int] = field(default_factory=list)


class Clients:
    """All clients of a job, and what they see while `counting`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.measured = Measured()
        self.counting = False
        self.transit: list[int] = []
        self.first: list[int] = []
        self.whole: list[int] = []
        self.all: list[Client] = []
        self._waiting = 0
        self._idle = asyncio.Event()
        self._request = request_bytes(job.profile, job.port, job.key)
        self._cpu: dict[str, int] = {}
        self._shares: list[int] = []
        self._began = 0.0

    async def connect(self) -> "Client":
        """Connect one more."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: Client(self, self._request), HOST, self.job.port)
        self.all.append(client)
        return client

    def asked(self) -> None:
        """One more answer is awaited."""
        self._waiting += 1
        self._idle.clear()

    def answered(self) -> None:
        """An answer has ended, well or not."""
        self._waiting -= 1
        if not self._waiting:
            self._idle.set()

    def begin(self) -> None:
        """Count from now on."""
        self._cpu, self._shares = self._cpu_now(), self._shares_now()
        self._began = time.monotonic()
        self.counting = True

    def end(self) -> None:
        """Count no more."""
        self.counting = False
        measured = self.measured
        measured.seconds = time.monotonic() - self._began
        measured.cpu = {who: used - self._cpu[who] for who, used in self._cpu_now().items()}
        measured.shares = [now - before for now, before in zip(self._shares_now(), self._shares, strict=True)]
        measured.transit, measured.first, measured.whole = map(Spread.of, (self.transit, self.first, self.whole))

    async def finished(self) -> None:
        """Wait until every answer has ended, then hang up."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._idle.wait()
        except TimeoutError:
            self.measured.errors += self._waiting
        for client in self.all:
            client.hang_up()

    def _shares_now(self) -> list[int]:
        return [cpu_ns([pid]) for pid in self.job.target]

    def _cpu_now(self) -> dict[str, int]:
        return {
            "target": cpu_ns(self.job.target),
            "backend": cpu_ns([self.job.backend]),
            "clients": time.process_time_ns(),
        }


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, clients: Clients, request: bytes) -> None:
        self._clients = clients
        self._request = request
        self._asked_at = 0
        self._head = b""
        self._left: int | None = None
        self._waits_for_first = False
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its bases

    def ask(self) -> None:
        """Send the request now; one that is due while the one before still runs is counted as late, not sent."""
        if self.busy:
            self._clients.measured.late += self._clients.counting
            return
        self.busy = self._waits_for_first = True
        self._head = b""
        self._left = None
        self._clients.asked()
        self._asked_at = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        clients = self._clients
        found = data.find(MARK)
        if found >= 0 and self._waits_for_first:
            self._waits_for_first = False
            if clients.counting:
                clients.first.append(now - self._asked_at)
        while found >= 0:
            if clients.counting:
                sent_at = int(data[found + len(MARK) : found + len(MARK) + DIGITS])
                clients.transit.append(now - sent_at)
                clients.measured.chunks += 1
            found = data.find(MARK, found + DIGITS)
        if self._left is None:
            data = self._read_head(data)
        if self._left is None:
            return
        if self._left >= 0:
            self._left -= len(data)
        if self._left == 0 or data.endswith(b"0\r\n\r\n"):
            self._done(now)

    def _read_head(self, data: bytes) -> bytes:
        """Return what follows the head; how much is to come is in `_left` then, -1 for a chunked body."""
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            return b""
        length = _LENGTH.search(self._head, 0, end)
        self._left = int(length[1]) if length else -1
        if not self._head.startswith(b"HTTP/1.1 200"):
            self._clients.measured.errors += 1
        return self._head[end:]

    def _done(self, now: int) -> None:
        self.busy = False
        self._clients.answered()
        if self._clients.counting:
            self._clients.measured.requests += 1
            self._clients.whole.append(now - self._asked_at)

    def hang_up(self) -> None:
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.busy:
            self._clients.measured.errors += 1
            self._clients.answered()
            self.busy = False


def request_bytes(profile: Profile, port: int, key: str) -> bytes:
    """Return the request that every client of `profile` sends."""
    if profile.holds:
        chunks = int((profile.ramp + profile.seconds + 2 * profile.settle) * profile.per_second) + 2
        options = {"num_predict": chunks, "interval_ms": round(1000 / profile.per_second)}
    else:
        options = {"num_predict": FEW_CHUNKS, "interval_ms": 5}
    body = orjson.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Why is the sky blue?"}],
            "stream": profile.kind != "short",
            "options": options,
        }
    )
    head = (
        f"POST /api/chat HTTP/1.1\r\nHost: {HOST}:{port}\r\nUser-Agent: ollama-python/0.6.1 (x86_64 linux)\r\n"
        f"Accept: application/json\r\nContent-Type: application/json\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(job: Job) -> Measured:
    """Do the job."""
    clients = Clients(job)
    clients.measured.rss_before = rss_bytes(job.target)
    if job.profile.holds:
        await _begin_streams(clients)
        await _measure(clients)
    else:
        for _ in range(job.profile.connections):
            await clients.connect()
        asking = asyncio.create_task(_ask_on_schedule(clients))
        await _measure(clients)
        asking.cancel()
    await clients.finished()
    return clients.measured


async def _begin_streams(clients: Clients) -> None:
    """Begin all streams, evenly over the ramp, so that their chunks do not fall due together."""
    profile = clients.job.profile
    began = time.monotonic()
    for number in range(profile.connections):
        client = await clients.connect()
        await asyncio.sleep(began + profile.ramp * number / profile.connections - time.monotonic())
        client.ask()


async def _ask_on_schedule(clients: Clients) -> None:
    began = time.monotonic()
    asked = 0
    while True:
        due = int((time.monotonic() - began) * clients.job.profile.per_second)
        for number in range(asked, due):
            clients.all[number % len(clients.all)].ask()
        asked = due
        await asyncio.sleep(0.001)


async def _measure(clients: Clients) -> None:
    await asyncio.sleep(clients.job.profile.settle)
    clients.begin()
    await asyncio.sleep(clients.job.profile.seconds)
    clients.end()
    clients.measured.rss = rss_bytes(clients.job.target)


def read_job(text: str) -> Job:
    """Return the job that `text`, JSON, describes."""
    document = orjson.loads(text)
    return Job(**document | {"profile": Profile(**document["profile"])})


def read_measured(text: bytes) -> Measured:
    """Return what this program has printed."""
    document = orjson.loads(text)
    spreads = {name: document[name] and Spread(**document[name]) for name in ("transit", "first", "whole")}
    return Measured(**document | spreads)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    sys.stdout.buffer.write(orjson.dumps(asdict(uvloop.run(run(read_job(sys.argv[1]))))))
