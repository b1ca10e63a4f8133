import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.answer import BEHIND, CAUGHT_UP, Answer, Source
from proxy.upstream.failures import CutShort

BOTH_LOOPS = True


class Noting(Source):
    """A connection that notes what the answer wants of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answer = Answer(self, asyncio.get_running_loop(), reused=False)

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")
        self.answer.end(httpx.StreamClosed())


def at_once(step: Coroutine[Any, Any, bytes]) -> bytes:
    """Return what `step` returns; fail if it suspends."""
    try:
        step.send(None)
    except StopIteration as done:
        return bytes(done.value)
    step.close()
    raise AssertionError("it suspended")


def at_once_none(step: Coroutine[Any, Any, None]) -> None:
    """Run `step`; fail if it suspends."""
    with pytest.raises(StopIteration):
        step.send(None)


async def waiting(step: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Return a task that has run `step` until it waits."""
    task = asyncio.get_running_loop().create_task(step)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_items_that_are_here_are_taken_without_suspending() -> None:
    answer = Noting().answer
    answer.begin()
    for item in (b"a", b"b"):
        answer.put(item)
    answer.end(None)
    assert [at_once(answer.read()) for _ in range(4)] == [b"a", b"b", b"", b""]
    assert answer.ended


async def test_iterating_gives_the_same() -> None:
    answer = Noting().answer
    answer.put(b"a")
    answer.put(b"b")
    answer.end(None)
    assert [item async for item in answer] == [b"a", b"b"]
    assert [item async for item in answer] == []


async def test_a_waiting_reader_gets_one_item_and_the_rest_waits_for_it() -> None:
    answer = Noting().answer
    reader = await waiting(answer.read())
    for item in (b"a", b"b", b"c"):
        answer.put(item)
    assert await reader == b"a"
    assert [at_once(answer.read()), at_once(answer.read())] == [b"b", b"c"]


async def test_head_waits_until_it_is_in_and_does_not_take_an_item() -> None:
    answer = Noting().answer
    head = await waiting(answer.head())
    answer.begin()
    answer.put(b"a")
    await head
    await answer.head()
    assert at_once(answer.read()) == b"a"


async def test_what_prevented_the_head_is_raised() -> None:
    answer = Noting().answer
    head = await waiting(answer.head())
    answer.end(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await head
    with pytest.raises(ValueError, match="no"):
        await answer.head()


async def test_a_failure_after_the_head_is_raised_behind_the_items() -> None:
    answer = Noting().answer
    answer.begin()
    answer.put(b"a")
    answer.end(CutShort("cut"))
    await answer.head()
    assert at_once(answer.read()) == b"a"
    for _ in range(2):
        with pytest.raises(CutShort):
            await answer.read()
    assert not answer.ended


async def test_a_failure_reaches_the_waiting_reader() -> None:
    answer = Noting().answer
    reader = await waiting(answer.read())
    answer.end(CutShort("cut"))
    with pytest.raises(CutShort):
        await reader


async def test_ended_is_known_with_the_last_item() -> None:
    answer = Noting().answer
    reader = await waiting(answer.read())
    answer.put(b"last")
    answer.end(None)
    assert await reader == b"last"
    assert answer.ended


async def test_reading_stops_when_the_reader_is_behind_and_goes_on_when_it_has_caught_up() -> None:
    source = Noting()
    answer = source.answer
    item = b"x" * 1000
    count = 0
    while not source.calls:
        answer.put(item)
        count += 1
    assert source.calls == ["pause"]
    assert count * len(item) <= BEHIND
    answer.put(item)  # what was read before the pause
    assert source.calls == ["pause"]
    left = count + 1
    while source.calls == ["pause"]:
        at_once(answer.read())
        left -= 1
    assert source.calls == ["pause", "resume"]
    assert 0 < left * len(item) <= CAUGHT_UP


async def test_items_flow_to_a_sink_without_waking_their_reader() -> None:
    answer, seen = Noting().answer, list[bytes]()

    def sink(item: bytes) -> bool:
        seen.append(item)
        return item != b"enough"

    flowing = await waiting(answer.flow(sink))
    for item in (b"a", b"b"):
        answer.put(item)
    await asyncio.sleep(0)
    assert not flowing.done()
    for item in (b"enough", b"c"):
        answer.put(item)
    assert seen == [b"a", b"b", b"enough"]
    await flowing
    assert at_once(answer.read()) == b"c"


async def test_what_is_here_already_comes_before_what_flows() -> None:
    answer = Noting().answer
    answer.put(b"here")
    at_once_none(answer.flow(lambda _: True))
    assert at_once(answer.read()) == b"here"
    answer.end(None)
    at_once_none(answer.flow(lambda _: True))


@pytest.mark.parametrize("error", [None, CutShort("cut")])
async def test_the_end_ends_the_flow(error: Exception | None) -> None:
    answer = Noting().answer
    flowing = await waiting(answer.flow(lambda _: True))
    answer.end(error)
    await flowing
    if error is None:
        assert at_once(answer.read()) == b""
    else:
        with pytest.raises(CutShort):
            await answer.read()


async def test_a_flow_that_is_cancelled_closes_the_connection() -> None:
    source = Noting()
    flowing = await waiting(source.answer.flow(lambda _: True))
    flowing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flowing
    assert source.calls == ["abort"]


@given(
    bursts=st.lists(st.integers(0, 5), max_size=30),
    keeps_up=st.lists(st.booleans(), max_size=40),
    slow=st.lists(st.integers(0, 3), max_size=40),
    error=st.sampled_from([None, CutShort("cut")]),
)
async def test_whoever_falls_behind_and_catches_up_gets_every_item_once_and_in_order(
    bursts: list[int], keeps_up: list[bool], slow: list[int], error: Exception | None
) -> None:
    """Items come in bursts, as a read brings them; the reader takes turns between `read` and `flow`, as dispatch does.

    `keeps_up` is what the sink says of each item it takes, `slow` how often the loop runs while the reader is busy.
    """
    answer, seen = Noting().answer, list[bytes]()

    def sink(item: bytes) -> bool:
        seen.append(item)
        return keeps_up.pop() if keeps_up else True

    async def reader() -> None:
        while item := await answer.read():
            seen.append(item)
            for _ in range(slow.pop() if slow else 0):
                await asyncio.sleep(0)
            await answer.flow(sink)

    reading = asyncio.create_task(reader())
    count = 0
    for burst in bursts:
        for _ in range(burst):
            answer.put(b"%d" % count)
            count += 1
        await asyncio.sleep(0)
    answer.end(error)
    if error is None:
        await reading
    else:
        with pytest.raises(CutShort):
            await reading
    assert seen == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("then", ["nothing", "item", "end"])
async def test_a_cancel_loses_no_item_that_the_sink_has_not_had(then: str) -> None:
    """What still comes before the task hears of its cancellation goes to the sink, or nowhere; never out of order."""
    source, seen = Noting(), list[bytes]()

    def sink(item: bytes) -> bool:
        seen.append(item)
        return True

    flowing = await waiting(source.answer.flow(sink))
    source.answer.put(b"a")
    flowing.cancel()
    if then == "item":
        source.answer.put(b"b")
    elif then == "end":
        source.answer.end(None)
    with pytest.raises(asyncio.CancelledError):
        await flowing
    assert seen == ([b"a", b"b"] if then == "item" else [b"a"])
    assert source.calls == ([] if then == "end" else ["abort"])
    source.answer.put(b"late")
    assert b"late" not in seen


async def test_tiny_items_count_more_than_their_bytes() -> None:
    source = Noting()
    count = 0
    while not source.calls:
        source.answer.put(b"x")
        count += 1
    assert count < BEHIND // 50


async def test_no_resume_after_the_end() -> None:
    source = Noting()
    source.answer.put(b"x" * BEHIND)
    source.answer.end(None)
    assert len(at_once(source.answer.read())) == BEHIND
    assert source.calls == ["pause"]


async def test_closing_early_closes_the_connection_and_drops_what_is_here() -> None:
    source = Noting()
    source.answer.put(b"a")
    await source.answer.aclose()
    assert source.calls == ["abort"]
    with pytest.raises(httpx.StreamClosed):
        await source.answer.read()
    await source.answer.aclose()
    assert source.calls == ["abort"]


async def test_closing_after_the_end_closes_nothing() -> None:
    source = Noting()
    source.answer.put(b"a")
    source.answer.end(None)
    await source.answer.aclose()
    assert source.calls == []
    with pytest.raises(httpx.StreamClosed):
        await source.answer.read()


async def test_closing_what_was_read_to_its_end_leaves_it_ended() -> None:
    answer = Noting().answer
    answer.end(None)
    await answer.aclose()
    assert answer.ended
    assert await answer.read() == b""


async def test_closing_wakes_a_reader() -> None:
    source = Noting()
    reader = await waiting(source.answer.read())
    await source.answer.aclose()
    with pytest.raises(httpx.StreamClosed):
        await reader


@pytest.mark.parametrize("what", ["head", "read"])
async def test_a_cancelled_reader_closes_the_connection(what: str) -> None:
    source = Noting()
    task = await waiting(source.answer.head() if what == "head" else source.answer.read())
    task.cancel()
    source.answer.put(b"too late")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.calls == ["abort"]


async def test_a_cancel_in_the_moment_an_item_comes_closes_the_connection() -> None:
    source = Noting()
    task = await waiting(source.answer.read())
    source.answer.put(b"a")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.calls == ["abort"]


async def test_one_reader_at_a_time() -> None:
    answer = Noting().answer
    first = await waiting(answer.read())
    with pytest.raises(RuntimeError, match="another task"):
        await answer.read()
    answer.put(b"a")
    assert await first == b"a"
