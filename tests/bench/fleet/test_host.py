"""A host that notes what it runs."""

import asyncio

from bench.fleet.calls import Seen, body
from bench.fleet.host import NotingHost
from bench.plan import HOST
from tests.support.wire import ask


async def test_it_notes_who_was_running_above_its_slots_and_what_it_said() -> None:
    requests = [Seen(f"tenant-0 0 {number}", "tenant-0", "/api/chat", "plain") for number in range(3)]
    async with NotingHost(2, token_delay=0.01, num_parallel=8) as host:
        address = (HOST, host.port)
        calls = (ask(address, "POST", one.path, body(one, 4)) for one in requests)
        replies = await asyncio.gather(*calls)
        await host.wait_for(lambda: host.counters.generating == 0)
        notes = host.notes()
    assert max(level for _, level in notes["levels"]) == 3
    assert notes["levels"][-1][1] == 0
    (_, who), *more = notes["excess"]
    assert not more
    assert sorted(who) == [one.who for one in requests]
    said = {answer["who"]: answer["said"].encode("latin-1") for answer in notes["answers"]}
    assert said == {one.who: reply.body for one, reply in zip(requests, replies, strict=True)}
    assert all(answer["whole"] for answer in notes["answers"])
