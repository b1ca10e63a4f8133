"""proxy/background/responses_api.py; what its routes do is in tests/live/test_sdk_background.py."""

import asyncio
import json
from typing import Any

from proxy.background.responses_api import ResponsesApi
from proxy.kernel.asgi import Message
from proxy.kernel.journal import Claim, Entry, NewEntry
from proxy.kernel.webhooks import Webhooks
from tests.support.batches import ANN, Bench

NAME = "resp_" + "1" * 32


class NoCalls(Webhooks):
    """Calls nobody."""

    def know(self, options: object) -> None:
        """Do nothing."""

    def notify(self, entry: Entry) -> None:
        """Do nothing."""


class Client:
    """Takes an answer."""

    def __init__(self) -> None:
        self.body = b""
        self.got = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.body += message.get("body", b"")
        self.got.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line[5:]) for line in self.body.splitlines() if line.startswith(b"data:")]


def event(kind: str, number: int, **members: Any) -> bytes:
    document = {"type": kind, "sequence_number": number, **members}
    return b"event: " + kind.encode() + b"\ndata: " + json.dumps(document).encode() + b"\n\n"


CREATED = event("response.created", 0, response={"id": "resp_9", "status": "in_progress"})
DONE = event("response.completed", 1, response={"id": "resp_9", "status": "completed"})


async def accepted(bench: Bench) -> tuple[ResponsesApi, Entry]:
    new = NewEntry(id=NAME, kind="request", caller=ANN, body=b'{"model":"m","input":"hi"}', expires_at=2_000_000.0)
    return ResponsesApi(bench.journal, NoCalls()), await bench.journal.add(new)


async def claimed(bench: Bench) -> Claim:
    claim = await bench.journal.claim("test", attempts=3, lost_after=30.0)
    assert claim is not None
    return claim


async def test_events_come_as_they_are_recorded() -> None:
    bench, client = Bench(), Client()
    api, entry = await accepted(bench)
    reading = asyncio.create_task(api.accepted(entry, client.send, stream=True))
    claim = await claimed(bench)
    await bench.journal.begin(claim, 200, ())
    for part in (CREATED[:10], CREATED[10:] + DONE[:5], DONE[5:]):
        await bench.journal.append(claim, part)
    await bench.journal.finish(claim, "completed")
    await reading
    assert client.body == (CREATED + DONE).replace(b'"resp_9"', f'"{NAME}"'.encode())


async def test_a_stream_that_breaks_off_ends_as_failed() -> None:
    bench, client = Bench(), Client()
    api, entry = await accepted(bench)
    claim = await claimed(bench)
    await bench.journal.begin(claim, 200, ())
    await bench.journal.append(claim, CREATED)
    await bench.journal.finish(claim, "failed", error="upstream_truncated: it broke off")
    await api.accepted(entry, client.send, stream=True)
    assert [found["type"] for found in client.events] == ["response.created", "response.failed"]
    assert client.events[1]["sequence_number"] == 1
    assert client.events[1]["response"]["error"]["message"] == "upstream_truncated: it broke off"


async def test_a_record_that_begins_anew_is_not_mixed_with_the_one_before() -> None:
    bench, client = Bench(), Client()
    api, entry = await accepted(bench)
    reading = asyncio.create_task(api.accepted(entry, client.send, stream=True))
    claim = await claimed(bench)
    await bench.journal.begin(claim, 200, ())
    await bench.journal.append(claim, CREATED)
    while b"response.created" not in client.body:
        client.got.clear()
        await client.got.wait()
    await bench.journal.release(claim)
    again = await claimed(bench)
    await bench.journal.begin(again, 200, ())
    await bench.journal.append(again, CREATED + DONE)
    await bench.journal.finish(again, "completed")
    await reading
    assert [found["type"] for found in client.events] == ["response.created", "response.failed"]


async def test_a_response_that_is_deleted_ends_its_stream() -> None:
    bench, client = Bench(), Client()
    api, entry = await accepted(bench)
    reading = asyncio.create_task(api.accepted(entry, client.send, stream=True))
    await client.got.wait()
    await bench.journal.delete(NAME)
    await reading
    assert client.events[0]["response"]["status"] == "failed"


async def test_an_error_is_told_in_the_backends_words() -> None:
    bench, client = Bench(), Client()
    api, _ = await accepted(bench)
    claim = await claimed(bench)
    await bench.journal.begin(claim, 404, ())
    await bench.journal.append(claim, b'{"error":{"message":"no such model"}}')
    ended = await bench.journal.finish(claim, "failed", error="http_404: it failed")
    await api.accepted(ended, client.send, stream=False)
    assert json.loads(client.body)["error"]["message"] == "no such model"


async def test_looking_at_a_response_that_runs_does_not_count_as_reading_it() -> None:
    bench, client = Bench(), Client()
    api, _ = await accepted(bench)
    claim = await claimed(bench)
    await bench.journal.begin(claim, 200, ())
    await bench.journal.append(claim, CREATED)
    entry = await bench.batch(NAME)
    await api.accepted(entry, client.send, stream=False)
    assert json.loads(client.body)["status"] == "in_progress"
    assert not (await bench.batch(NAME)).read
