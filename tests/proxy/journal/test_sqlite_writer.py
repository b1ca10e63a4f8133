"""proxy/journal/sqlite_writer.py: rules share transactions, and one that fails takes no other with it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from proxy.journal.sqlite_writer import Writer
from proxy.kernel.journal import Fenced, JournalFull
from proxy.kernel.sqlite_file import open_file
from proxy.kernel.store import StoreUnavailable


class Numbers:
    """A table of numbers, and what is known of it by heart."""

    connection: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: list[int] = []
        self.taken_back = 0
        self.woken: list[str] = []

    def open(self) -> sqlite3.Connection:
        self.connection = open_file(self.path, most_bytes=200_000)
        self.connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, text)")
        return self.connection

    def take_back(self) -> None:
        self.taken_back += 1
        self.known = [found[0] for found in self.connection.execute("SELECT number FROM numbers ORDER BY number")]

    def put(self, number: int, size: int = 1) -> int:
        if number < 0:
            raise Fenced(str(number))
        self.known.append(number)
        self.connection.execute("INSERT INTO numbers VALUES (?, ?)", (number, "x" * size))
        return number


@pytest.fixture
def numbers(tmp_path: Path) -> Numbers:
    return Numbers(tmp_path / "a.db")


@pytest.fixture
async def writer(numbers: Numbers) -> AsyncIterator[Writer]:
    made = Writer(numbers.open, numbers.take_back, lambda: [str(len(numbers.known))], numbers.woken.extend)
    await made.start()
    yield made
    await made.stop()


async def test_rules_that_come_together_share_transactions(writer: Writer, numbers: Numbers) -> None:
    results = await asyncio.gather(*(writer.run(partial(numbers.put, number)) for number in range(200)))
    assert results == list(range(200))
    assert writer.commits <= 3
    assert numbers.woken[-1] == "200"


async def test_rules_that_may_wait_share_a_transaction_and_hold_up_no_other(writer: Writer, numbers: Numbers) -> None:
    async def one_after_the_other() -> None:
        for number in range(3):
            await writer.run(partial(numbers.put, number))

    waiting = [asyncio.create_task(writer.run(partial(numbers.put, number), together=True)) for number in range(10, 60)]
    await one_after_the_other()
    before = writer.commits
    assert await asyncio.gather(*waiting) == list(range(10, 60))
    assert writer.commits - before <= 1


async def test_what_was_gathered_is_written_before_the_end(numbers: Numbers) -> None:
    writer = Writer(numbers.open, numbers.take_back, tuple, lambda _: None)
    await writer.start()
    waiting = asyncio.create_task(writer.run(partial(numbers.put, 1), together=True))
    await asyncio.sleep(0)
    await writer.stop()
    assert await waiting == 1


async def test_a_rule_that_refuses_leaves_the_others_alone(writer: Writer, numbers: Numbers) -> None:
    results = await asyncio.gather(
        *(writer.run(partial(numbers.put, number)) for number in (1, -1, 2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, Fenced, int]
    assert numbers.taken_back == 0


async def test_a_rule_that_fails_takes_back_nothing_of_the_others(writer: Writer, numbers: Numbers) -> None:
    sizes = {1: 1, 2: 300_000, 3: 1, 4: 300_000}
    results = await asyncio.gather(
        *(writer.run(partial(numbers.put, number, size)) for number, size in sizes.items()),
        writer.run(lambda: numbers.put(1)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, JournalFull, int, JournalFull, StoreUnavailable]
    assert numbers.taken_back > 0
    await writer.run(lambda: numbers.put(5))
    assert numbers.known == [1, 3, 5]


async def test_a_mistake_is_raised_where_it_was_made(writer: Writer, numbers: Numbers) -> None:
    with pytest.raises(ZeroDivisionError):
        await writer.run(lambda: 1 // 0)
    assert await writer.run(lambda: numbers.put(1)) == 1


async def test_what_waits_is_written_before_the_end(writer: Writer, numbers: Numbers) -> None:
    waiting = [asyncio.create_task(writer.run(partial(numbers.put, number))) for number in range(50)]
    await asyncio.sleep(0)
    await writer.stop()
    assert [await one for one in waiting] == list(range(50))
    with pytest.raises(StoreUnavailable, match="not open"):
        await writer.run(lambda: numbers.put(99))


async def test_a_file_that_cannot_be_opened_is_said_at_the_start(numbers: Numbers) -> None:
    def fails() -> sqlite3.Connection:
        raise StoreUnavailable("no such folder")

    writer = Writer(fails, numbers.take_back, tuple, lambda _: None)
    with pytest.raises(StoreUnavailable, match="no such folder"):
        await writer.start()
