"""proxy/workers/channel.py: two ends in one loop, on a real pair of sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.workers.channel import BEHIND, LONGEST, Channel, ChannelError


async def double(about: Mapping[str, Any]) -> Any:
    return about["number"] * 2


async def never(about: Mapping[str, Any]) -> Any:
    await asyncio.Event().wait()


@asynccontextmanager
async def connected(heard: list[Any]) -> AsyncIterator[tuple[Channel, Channel, socket.socket]]:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    asking = Channel(one, {}, {})
    answering = Channel(two, {"double": double, "never": never}, {"news": heard.append})
    opened = [asyncio.Event(), asyncio.Event()]
    tasks = [
        asyncio.create_task(channel.run(event.set)) for channel, event in zip((asking, answering), opened, strict=True)
    ]
    for event in opened:
        await event.wait()
    yield asking, answering, one
    asking.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_questions_are_answered_side_by_side_and_news_are_heard() -> None:
    heard: list[Any] = []
    async with connected(heard) as (asking, _, _):
        answers = await asyncio.gather(*(asking.ask("double", {"number": n}, timeout=10) for n in range(50)))
        assert answers == [2 * n for n in range(50)]
        asking.tell("news", text="x" * 200_000)
        asking.tell("unknown", text="x")
        assert await asking.ask("double", {"number": 1}, timeout=10) == 2
        assert heard == [{"text": "x" * 200_000}]


async def test_what_cannot_be_answered_is_an_error_for_who_asked() -> None:
    async with connected([]) as (asking, _, _):
        with pytest.raises(ChannelError, match="nobody answers"):
            await asking.ask("what", {}, timeout=10)
        with pytest.raises(ChannelError, match="KeyError"):
            await asking.ask("double", {}, timeout=10)
        with pytest.raises(TimeoutError):
            await asking.ask("never", {}, timeout=0)


async def test_questions_end_with_the_other_end() -> None:
    async with connected([]) as (asking, answering, _):
        question = asyncio.create_task(asking.ask("never", {}, timeout=10))
        await asyncio.sleep(0)
        answering.close()
        with pytest.raises(ChannelError, match="gone"):
            await question
        with pytest.raises(ChannelError, match="gone"):
            await asking.ask("double", {"number": 1}, timeout=10)


async def test_a_message_without_measure_ends_it() -> None:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.sendall((LONGEST + 1).to_bytes(4))
    with pytest.raises(ChannelError, match="bytes"):
        await Channel(one, {}, {}).run()
    two.close()


async def test_news_for_one_that_is_gone_are_no_error() -> None:
    async with connected([]) as (asking, answering, _):
        answering.close()
        with pytest.raises(ChannelError):
            await asking.ask("never", {}, timeout=10)
        asking.tell("news", text="x")


async def test_events_are_lost_on_a_slow_one_and_nothing_else_is() -> None:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    heard: list[Any] = []
    opened, stopped = asyncio.Event(), asyncio.Event()
    telling = Channel(one, {}, {})
    slow = Channel(two, {}, {"event": heard.append, "stop": lambda about: stopped.set()})
    tasks = [asyncio.create_task(telling.run(opened.set))]
    await opened.wait()
    for number in range(100):
        telling.mention("event", number=number, text="x" * 2**16)
    telling.tell("stop")
    tasks.append(asyncio.create_task(slow.run()))
    async with asyncio.timeout(30):
        await stopped.wait()
    assert [about["number"] for about in heard] == list(range(len(heard)))
    assert BEHIND // 2**16 <= len(heard) < 100
    telling.close()
    await asyncio.gather(*tasks)
