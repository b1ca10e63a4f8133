"""The decisions of a recorder; with sockets they are tried in tests/live/test_resuming.py."""

import asyncio
from typing import Any

import pytest

from middleware.resumable.live_records import LiveRecords
from middleware.resumable.recorder import AnswerRecorder, Rules
from proxy.journal.memory import MemoryJournal
from proxy.kernel.answer_recorder import Recorder
from proxy.kernel.asgi import Message
from proxy.kernel.errors import Cancelled
from proxy.testing import ManualClock, make_exchange
from tests.support.backend import eventually


class Recorded:
    """A recorder between a frame and a client that keeps what it gets."""

    def __init__(self, body: bytes = b'{"model": "m"}') -> None:
        clock = ManualClock()
        self.journal = MemoryJournal(clock)
        self.got: list[Message] = []
        self.stops: list[Cancelled | None] = []
        self.exchange = make_exchange(body=body, record=self.record)
        rules = Rules(self.journal, clock, LiveRecords(self.journal), grace=0.01, keep=100, expire=60)
        self.recorder = AnswerRecorder(self.exchange, rules)
        self.send = self.recorder.sending(self.client)

    def record(self, recorder: Recorder) -> Any:
        return self.stop

    def stop(self, error: Cancelled | None) -> bool:
        self.stops.append(error)
        return True

    async def client(self, message: Message) -> None:
        self.got.append(message)

    async def begin(self, status: int = 200) -> None:
        await self.exchange.body()
        headers = [(b"content-type", b"application/x-ndjson"), (b"x-other", b"1")]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def end(self) -> None:
        finishing = self.recorder.finish(self.exchange)
        if finishing is not None:
            await finishing


async def test_a_stream_gets_the_address_of_its_record() -> None:
    recorded = Recorded()
    await recorded.begin()
    link = f'</-/requests/{recorded.exchange.id}/answer>; rel="resume"'
    assert (b"link", link.encode()) in recorded.got[0]["headers"]
    await recorded.send({"type": "http.response.body", "body": b"one", "more_body": True})
    assert recorded.recorder.writing(lambda chunk: chunk == b"two")(b"two")
    await recorded.end()
    entry = await recorded.journal.get(recorded.exchange.id)
    assert entry is not None
    assert entry.answer_headers == (("content-type", "application/x-ndjson"),)
    assert await recorded.journal.read(entry.id, 0, 100) == b"onetwo"
    assert entry.state == "cancelled"  # its client left: no message was the last


@pytest.mark.parametrize(("body", "status"), [(b'{"model": "m"}', 404), (b'{"model": "m", "stream": false}', 200)])
async def test_what_is_no_stream_gets_none(body: bytes, status: int) -> None:
    recorded = Recorded(body)
    await recorded.begin(status)
    assert b"link" not in dict(recorded.got[0]["headers"])
    assert not recorded.recorder.outlives()
    await recorded.end()
    assert await recorded.journal.get(recorded.exchange.id) is None


async def test_without_a_reader_it_is_stopped_after_the_grace() -> None:
    recorded = Recorded()
    await recorded.begin()
    assert recorded.recorder.outlives()
    await eventually(lambda: recorded.stops == [None])
    await recorded.end()


async def test_with_a_reader_it_goes_on() -> None:
    recorded = Recorded()
    await recorded.begin()
    await recorded.send({"type": "http.response.body", "body": b"one", "more_body": True})
    assert recorded.recorder.outlives()
    await recorded.journal.wait_for_change(recorded.exchange.id, 0, 10)
    assert await recorded.journal.read(recorded.exchange.id, 0, 10) == b"one"
    looking = recorded.recorder._waiting
    await eventually(lambda: recorded.recorder._waiting is not looking)
    assert isinstance(recorded.recorder._waiting, asyncio.Task)
    await recorded.recorder._waiting
    assert recorded.stops == []
    await recorded.end()


async def test_a_record_that_was_put_in_for_a_client_that_left_meanwhile_is_deleted() -> None:
    recorded = Recorded()
    recorded.journal.add = stuck  # type: ignore[method-assign]
    beginning = asyncio.create_task(recorded.begin())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not recorded.recorder.outlives()
    beginning.cancel()
    await asyncio.wait([beginning])
    await recorded.end()
    assert await recorded.journal.get(recorded.exchange.id) is None


async def stuck(new: object) -> Any:
    await asyncio.Event().wait()
