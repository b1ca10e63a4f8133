"""The clients against the fake backend, and against one that misbehaves."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict

import orjson
import pytest

from bench.load import Clients, Job, Measured, Spread, read_job, read_measured, request_bytes, run
from bench.plan import HOST, Kind, Profile
from bench.targets import Target, backend


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with backend() as target:
        yield target


def tiny(kind: Kind, connections: int = 4, per_second: float = 100) -> Profile:
    return Profile(kind, connections, per_second, seconds=0.3, ramp=0.1, settle=0.1)


def job(port: int, profile: Profile) -> Job:
    return Job(profile, port, "op_key", [os.getpid()], os.getpid())


@pytest.mark.parametrize("kind", ["stream", "memory"])
async def test_streams_that_stay_open(target: Target, kind: Kind) -> None:
    measured = await run(job(target.port, tiny(kind)))
    assert measured.errors == 0
    assert measured.chunks > 4
    assert measured.requests == 0
    assert measured.transit is not None
    assert 0 < measured.transit.p50 <= measured.transit.p99
    assert measured.rss >= measured.rss_before * 0.5 > 0
    assert set(measured.cpu) == {"target", "backend", "clients"}


async def test_short_streams_give_the_time_to_the_first_chunk(target: Target) -> None:
    measured = await run(job(target.port, tiny("first")))
    assert measured.errors == 0
    assert measured.requests > 0
    assert measured.first is not None
    assert measured.whole is not None
    assert measured.first.p50 < measured.whole.p50


async def test_answers_in_one_piece(target: Target) -> None:
    measured = await run(job(target.port, tiny("short")))
    assert (measured.errors, measured.chunks, measured.transit) == (0, 0, None)
    assert measured.requests > 0
    assert measured.whole is not None


@pytest.fixture
async def refusing() -> AsyncIterator[int]:
    """The port of a server that answers everything with 429, its head in two pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-")
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(b"Length: 2\r\n\r\nno")
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_answers_that_are_not_200_are_errors(refusing: int) -> None:
    measured = await run(job(refusing, tiny("short")))
    assert measured.errors > 0


@pytest.fixture
async def hanging_up() -> AsyncIterator[int]:
    """The port of a server that closes on the first byte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_answers_that_never_come_are_errors(hanging_up: int) -> None:
    measured = await run(job(hanging_up, tiny("stream", connections=3)))
    assert measured.errors == 3


async def test_a_request_that_is_due_while_the_one_before_runs_is_late(target: Target) -> None:
    clients = Clients(job(target.port, tiny("first")))
    client = await clients.connect()
    clients.begin()
    client.ask()
    client.ask()
    await clients.finished()
    assert clients.measured.late == 1


def test_everybody_is_sent_the_same_bytes_but_for_what_the_profile_asks() -> None:
    head, _, body = request_bytes(tiny("stream", per_second=50), 80, "op_key").partition(b"\r\n\r\n")
    assert b"\r\nAuthorization: Bearer op_key\r\n" in head
    assert orjson.loads(body)["options"] == {"num_predict": 32, "interval_ms": 20}
    assert orjson.loads(request_bytes(tiny("short"), 80, "k").partition(b"\r\n\r\n")[2])["stream"] is False


def test_spread() -> None:
    assert Spread.of([]) is None
    assert Spread.of([5]) == Spread(5, 5)
    assert Spread.of(list(range(100, 0, -1))) == Spread(51, 100)


def test_jobs_and_results_survive_the_pipe() -> None:
    asked = job(1, tiny("stream"))
    assert read_job(orjson.dumps(asdict(asked)).decode()) == asked
    measured = Measured(seconds=1.0, chunks=2, cpu={"target": 3}, transit=Spread(1, 2))
    assert read_measured(orjson.dumps(asdict(measured))) == measured
