"""proxy/webhooks/sender.py: against a receiver on a real socket, which verifies with the package of the standard."""

import asyncio
import base64
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from proxy.journal.memory import MemoryJournal
from proxy.journal.sqlite import SqliteJournal
from proxy.kernel.journal import Entry, Journal
from proxy.kernel.webhook_options import WebhookOptions
from proxy.kernel.webhooks import OPTIONS, TOLD, WEBHOOK
from proxy.services.system_clock import SystemClock
from proxy.testing import ManualClock
from proxy.webhooks.message import message_id
from proxy.webhooks.sender import AT_ONCE, AT_ONCE_OF_ONE, SignedWebhooks
from tests.support.backend import eventually
from tests.support.journals import BOB, START, claim, entry
from tests.support.webhooks import SECRET, Receiver


def options(target: str, **more: object) -> WebhookOptions:
    return WebhookOptions.model_validate({"targets": [target], "secret": SECRET, **more})


async def ended(journal: Journal, url: str, by: WebhookOptions | None = None) -> Entry:
    """Return an entry that names an address and is over; the options `by` have permitted it."""
    await journal.add(entry(meta={WEBHOOK: url} if by is None else {WEBHOOK: url, OPTIONS: by.mark}))
    return await journal.finish(await claim(journal), "completed")


async def settled(sender: SignedWebhooks) -> None:
    """Wait until nothing is to be delivered any more."""
    await asyncio.gather(*sender._tasks.values())


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal(SystemClock())


async def told(journal: Journal, one: Entry) -> bool:
    found = await journal.get(one.id)
    assert found is not None
    return found.meta.get(TOLD) == one.fence


async def test_a_receiver_gets_one_call_that_it_can_verify(journal: MemoryJournal) -> None:
    sender = SignedWebhooks(journal, SystemClock())
    async with Receiver(204).listening() as receiver:
        known = options(receiver.url)
        sender.know(known)
        one = await ended(journal, receiver.url)
        sender.notify(one)
        sender.notify(one)  # while it is delivered already
        await settled(sender)
    [(fields, message)] = receiver.calls
    assert Webhook(SECRET).verify(message, fields)
    said = orjson.loads(message)
    assert (said["type"], said["data"]["id"], said["data"]["state"]) == ("request.completed", one.id, "completed")
    assert fields["webhook-id"] == message_id(one)
    assert fields["content-type"] == "application/json"
    assert await told(journal, one)


async def test_a_failed_call_is_tried_again_with_the_same_id(journal: MemoryJournal) -> None:
    sender = SignedWebhooks(journal, SystemClock(), delays=(0.001, 0.001, 0.001))
    async with Receiver(500, 302, 200, location="http://127.0.0.1:1/").listening() as receiver:
        known = options(receiver.url)
        sender.know(known)
        sender.notify(await ended(journal, receiver.url))
        await settled(sender)
    assert len(receiver.calls) == 3  # a redirect is not followed: it is a failure
    assert len({fields["webhook-id"] for fields, _ in receiver.calls}) == 1
    for fields, message in receiver.calls:
        assert Webhook(SECRET).verify(message, fields)


@pytest.mark.parametrize(("status", "calls"), [(500, 3), (410, 1)])
async def test_a_call_that_keeps_failing_is_given_up_and_logged(
    status: int, calls: int, journal: MemoryJournal
) -> None:
    sender = SignedWebhooks(journal, SystemClock(), delays=(0.001, 0.001))
    async with Receiver(status).listening() as receiver:
        known = options(receiver.url)
        sender.know(known)
        one = await ended(journal, receiver.url)
        with capture_logs() as lines:
            sender.notify(one)
            await settled(sender)
    assert len(receiver.calls) == calls
    assert [(line["event"], line["entry"], line["reason"]) for line in lines] == [
        ("webhook_given_up", one.id, f"it answered {status}")
    ]
    assert await told(journal, one)


async def test_a_receiver_that_is_not_there_is_tried_again(journal: MemoryJournal) -> None:
    sender = SignedWebhooks(journal, SystemClock(), delays=(0.001,))
    async with Receiver(200).listening() as receiver:
        url = receiver.url
    known = options(url)
    sender.know(known)
    with capture_logs() as lines:
        sender.notify(await ended(journal, url))
        await settled(sender)
    assert len(lines) == 1


async def test_a_private_address_that_nobody_names_is_not_called(journal: MemoryJournal) -> None:
    sender = SignedWebhooks(journal, SystemClock())
    async with Receiver(200).listening() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        for networks, calls in ((), 0), (("127.0.0.0/8", "::1/128"), 1):
            known = options(url, networks=networks)
            sender.know(known)
            with capture_logs() as lines:
                sender.notify(await ended(journal, url))
                await settled(sender)
            assert len(receiver.calls) == calls
            assert ["no address of the Internet" in line["reason"] for line in lines] == [True] * (1 - calls)
            del known


async def test_an_address_that_no_policy_in_force_permits_is_not_called(journal: MemoryJournal) -> None:
    sender = SignedWebhooks(journal, SystemClock())
    async with Receiver(200).listening() as receiver:
        first, same = options(receiver.url), options(receiver.url)
        sender.know(first)
        sender.know(same)
        del first  # the policy file was loaded again: the plugin that held it is gone, another one says the same
        sender.notify(await ended(journal, receiver.url))
        await settled(sender)
        del same
        sender.notify(await ended(journal, receiver.url))
        await settled(sender)
    assert len(receiver.calls) == 1


async def test_each_policy_has_its_own_secret_and_networks(journal: MemoryJournal) -> None:
    """Two policies permit the same address: what one of them signs and may reach is not the other's."""
    sender = SignedWebhooks(journal, SystemClock())
    async with Receiver(200).listening() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        other = "whsec_" + base64.b64encode(b"o" * 32).decode()
        trusted = options(url, secret=other, networks=("127.0.0.0/8", "::1/128"))
        theirs = options(url, networks=("127.0.0.0/8", "::1/128"))
        strict = options(url)
        for each in (trusted, strict, theirs):
            sender.know(each)
        sender.notify(await ended(journal, url, theirs))
        await settled(sender)
        [(fields, message)] = receiver.calls
        assert Webhook(SECRET).verify(message, fields)
        with capture_logs() as lines:
            sender.notify(await ended(journal, url, strict))
            await settled(sender)
        assert len(receiver.calls) == 1
        assert "no address of the Internet" in lines[0]["reason"]


async def test_entries_that_name_nothing_or_are_not_over_are_passed_by(journal: MemoryJournal) -> None:
    sender = SignedWebhooks(journal, SystemClock())
    await journal.add(entry())
    sender.notify(await journal.finish(await claim(journal), "completed"))
    sender.notify(await journal.add(entry(meta={WEBHOOK: "http://h/"})))
    assert not sender._tasks


async def test_what_was_not_delivered_is_delivered_after_a_restart(tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path / "state.db"), SystemClock())
    await journal.connect()
    async with Receiver(500, 200).listening() as receiver:
        known = options(receiver.url)
        sender = SignedWebhooks(journal, SystemClock())
        sender.know(known)
        one = await ended(journal, receiver.url)
        sender.notify(one)
        await receiver.called.wait()
        await sender.aclose()  # while it waits for its second attempt
        later = SignedWebhooks(journal, SystemClock())
        later.know(known)
        await later.resume()
        await settled(later)
        assert [fields["webhook-id"] for fields, _ in receiver.calls] == [message_id(one)] * 2
        await later.resume()  # nothing is left
        assert not later._tasks
    await journal.aclose()


async def test_what_no_run_has_ended_is_found_and_told() -> None:
    """One has waited too long for its turn, the other has lost its owner when a part of it was read."""
    clock = ManualClock(START)
    journal = MemoryJournal(clock)
    async with Receiver(200).listening() as receiver:
        known = options(receiver.url)
        sender = SignedWebhooks(journal, clock, look=0.01)
        sender.know(known)
        lost = await journal.add(entry(meta={WEBHOOK: receiver.url}))
        taken = await claim(journal)
        await journal.begin(taken, 200, [])
        await journal.append(taken, b"a")
        await journal.read(lost.id, 0, 1)
        late = await journal.add(entry(meta={WEBHOOK: receiver.url}, expires_at=START + 60))
        await sender.resume()
        clock.advance(61)
        await journal.claim("another", attempts=3, lost_after=30.0)
        await eventually(lambda: len(receiver.calls) >= 2)
        await settled(sender)
        await sender.aclose()
    said = {(told["data"]["id"], told["type"]) for told in (orjson.loads(message) for _, message in receiver.calls)}
    assert said == {(lost.id, "request.failed"), (late.id, "request.expired")}
    assert len(receiver.calls) == 2


async def test_an_address_that_does_not_answer_takes_no_others_place(journal: MemoryJournal) -> None:
    sender = SignedWebhooks(journal, SystemClock())
    called: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer)

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with Receiver(200).listening() as receiver:
        known = options(url), options(receiver.url)
        for each in known:
            sender.know(each)
        for _ in range(AT_ONCE):
            sender.notify(await ended(journal, url))
        await eventually(lambda: len(called) == AT_ONCE_OF_ONE)
        sender.notify(replace(await ended(journal, receiver.url), caller=BOB))
        await receiver.called.wait()
    assert len(called) == AT_ONCE_OF_ONE
    await sender.aclose()
    for writer in called:
        writer.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("bound", ["MOST", "MOST_OF_ONE"])
async def test_messages_are_bounded(bound: str, journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"proxy.webhooks.sender.{bound}", 1)
    sender = SignedWebhooks(journal, SystemClock())
    over = [await ended(journal, "http://h/") for _ in range(2)]
    with capture_logs() as lines:
        for entry in over:
            sender.notify(entry)
    assert [line["reason"] for line in lines] == ["1 messages wait already, 1 of them for this caller"]
    await sender.aclose()
    assert not sender._waiting
