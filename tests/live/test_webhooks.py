"""A client is told when what it has sent is over: a deferred request, a response in the background, a batch."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.backend import eventually
from tests.support.sdk_place import MODEL, Place, placed
from tests.support.webhooks import SECRET, Receiver
from tests.support.wire import Reply, ask

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver(200).listening() as found:
        yield found


@pytest.fixture
async def place(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Place]:
    async with placed(tmp_path, webhooks={"targets": [receiver.url], "secret": SECRET}) as found:
        yield found


async def post(place: Place, path: str, body: dict[str, Any], **headers: str) -> Reply:
    fields = {"Authorization": f"Bearer {place.keys['alice']}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return await ask(place.proxy.address, "POST", path, body, fields)


async def uploaded(place: Place) -> str:
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": MODEL, "messages": MESSAGES}}
    async with place.openai() as client:
        file = await client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
        return file.id


async def sent(place: Place, kind: str, url: str) -> Reply:
    """Send what is answered later, and name an address."""
    if kind == "request":
        return await post(
            place, "/api/chat", {"model": MODEL, "messages": MESSAGES}, prefer="respond-async", x_webhook_url=url
        )
    if kind == "response":
        return await post(
            place, "/v1/responses", {"model": MODEL, "input": "hi", "background": True}, x_webhook_url=url
        )
    if kind == "batch":
        about = {"input_file_id": await uploaded(place), "endpoint": CHAT, "completion_window": "24h"}
        return await post(place, "/v1/batches", about, x_webhook_url=url)
    params = {"model": MODEL, "max_tokens": 100, "messages": MESSAGES}
    return await post(
        place, "/v1/messages/batches", {"requests": [{"custom_id": "a", "params": params}]}, x_webhook_url=url
    )


@pytest.mark.parametrize("kind", ["request", "response", "batch", "message batch"])
async def test_what_is_over_is_told_to_the_address_that_was_named(kind: str, place: Place, receiver: Receiver) -> None:
    reply = await sent(place, kind, receiver.url)
    assert reply.status in (200, 202), reply.body
    await eventually(lambda: len(receiver.calls) == 1)
    fields, message = receiver.calls[0]
    told = Webhook(SECRET).verify(message, fields)
    assert told["data"]["id"] == json.loads(reply.body)["id"]
    assert told["type"] == ("batch.completed" if "batch" in kind else "request.completed")
    assert told["data"].get("counts", {}).get("succeeded") == (1 if "batch" in kind else None)


@pytest.mark.parametrize("kind", ["request", "response", "batch", "message batch"])
async def test_an_address_that_may_not_be_called_is_refused_and_nothing_is_kept(kind: str, place: Place) -> None:
    reply = await sent(place, kind, "http://169.254.169.254/")
    assert (reply.status, reply.headers["x-error-code"]) == (403, "webhook_not_allowed")
    async with place.openai() as client:
        assert (await client.batches.list()).data == []
