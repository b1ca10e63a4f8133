"""proxy/workers/member.py, with a parent that answers as the test says."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from proxy.kernel.peers import Answer
from proxy.workers.channel import Channel
from proxy.workers.member import Member


@asynccontextmanager
async def member(answers: list[Any], heard: list[Any]) -> AsyncIterator[tuple[Member, Channel]]:
    async def everybody(about: Mapping[str, Any]) -> Any:
        answers.append(about)
        return [[1, {"n": 1}], [2, {"n": 2}], [3, None]]

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    hears = {name: lambda about, name=name: heard.append((name, about)) for name in ("watch", "event")}
    parent = Channel(ours, {"all": everybody}, hears)
    found = Member(theirs)
    found.number = 2
    opened = [asyncio.Event(), asyncio.Event()]
    tasks = [
        asyncio.create_task(channel.run(event.set))
        for channel, event in zip((parent, found.channel), opened, strict=True)
    ]
    for event in opened:
        await event.wait()
    yield found, parent
    parent.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_asks_all_by_its_parent_and_knows_its_own_answer() -> None:
    asked: list[Any] = []
    async with member(asked, []) as (found, _):
        answers = await found.ask("number", of="x")
        assert answers == [Answer(1, {"n": 1}), Answer(2, {"n": 2}, mine=True), Answer(3, None)]
        assert asked == [{"question": "number", "about": {"of": "x"}}]


async def test_without_its_parent_it_answers_alone() -> None:
    async def number(about: Mapping[str, Any]) -> Any:
        return {"n": (7,)}

    async with member([], []) as (found, parent):
        found.on("number", number)
        parent.close()
        assert await found.ask("number") == [Answer(2, {"n": [7]}, mine=True)]


async def test_events_go_both_ways_where_somebody_watches() -> None:
    heard: list[Any] = []
    events: asyncio.Queue[bytes] = asyncio.Queue()
    async with member([], heard) as (found, parent):
        found.watch(events.put_nowait)
        parent.tell("event", text="event: x\n\n")
        assert await events.get() == b"event: x\n\n"
        parent.tell("watched", on=True)
        parent.tell("event", text="2")
        await events.get()
        assert found.watched
        found.tell("é".encode())
        found.watch(None)
        parent.tell("event", text="3")
        await found.ask("number")
        assert heard == [("watch", {"on": True}), ("event", {"text": "é"}), ("watch", {"on": False})]
        assert events.empty()
