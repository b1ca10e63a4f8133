"""One key, many people: limits and the log tell them apart if the caller is trusted, and no backend learns of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
END_USERS = {"trusted": ["webui"], "body": True}
LIMIT = {"rate_limit": {"requests": "2/hour", "by": "end_user"}}


class Place:
    def __init__(self, proxy: Running, sim: Ollama, keys: dict[str, str]) -> None:
        self.proxy = proxy
        self.sim = sim
        self.keys = keys

    async def ask(self, who: str, path: str = "/api/chat", body: Any = None, **headers: str) -> Reply:
        fields = {"authorization": f"Bearer {self.keys[who]}"}
        fields |= {f"x-openwebui-user-{name}": value for name, value in headers.items()}
        return await ask(self.proxy.address, "POST", path, {**CHAT, "max_tokens": 3, **(body or {})}, fields)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    keys = {}
    for name in ("webui", "mallory"):
        keys[name], entry = new_key(name, now=0.0)
        add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml", "end_users": END_USERS}}, LIMIT]
    async with Ollama(tokens=3) as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy:
        yield Place(proxy, sim, keys)


async def test_each_person_of_a_trusted_key_has_a_limit_and_a_name(place: Place) -> None:
    for _ in range(2):
        assert (await place.ask("webui", email="ann@example.com", name="Ann")).status == 200
    refused = await place.ask("webui", email="ann@example.com", name="Ann")
    assert (refused.status, refused.headers["x-error-code"]) == (429, "rate_limit_exceeded")
    assert (await place.ask("webui", email="bob@example.com")).status == 200
    assert (await place.ask("webui")).status == 200
    lines = [(line["identity"], line["end_user"], line["status"]) for line in place.proxy.log.requests]
    ann, bob = ("webui", "ann@example.com"), ("webui", "bob@example.com")
    assert lines == [(*ann, 200), (*ann, 200), (*ann, 429), (*bob, 200), ("webui", None, 200)]


async def test_an_untrusted_caller_cannot_make_itself_many(place: Place) -> None:
    replies = [await place.ask("mallory", email=f"{number}@example.com") for number in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    replies = [await place.ask("mallory", "/v1/chat/completions", {"user": str(number)}) for number in range(2)]
    assert [reply.status for reply in replies] == [429, 429]
    assert {line["end_user"] for line in place.proxy.log.requests} == {None}
    assert not any("example.com" in str(line) for line in place.proxy.log.requests)


@pytest.mark.parametrize("who", ["webui", "mallory"])
async def test_no_backend_learns_of_them(place: Place, who: str) -> None:
    people = {"email": "ann@example.com", "id": "7", "name": "Ann", "role": "admin"}
    assert (await place.ask(who, **people)).status == 200
    assert not [name for name, _ in place.sim.last.headers if b"openwebui" in name.lower()]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"user": "ann"}),
        ("/v1/responses", {"safety_identifier": "ann", "input": "hi"}),
        ("/v1/messages", {"metadata": {"user_id": "ann"}}),
    ],
)
async def test_a_body_may_name_the_person(place: Place, path: str, body: dict[str, Any]) -> None:
    assert [(await place.ask("webui", path, body)).status for _ in range(3)] == [200, 200, 429]
    other = {**body, "user": "bob", "safety_identifier": "bob", "metadata": {"user_id": "bob"}}
    assert (await place.ask("webui", path, other)).status == 200
    assert [line["end_user"] for line in place.proxy.log.requests] == ["ann", "ann", "ann", "bob"]


async def test_the_openai_sdk_names_its_user(place: Place) -> None:
    url, key = f"{place.proxy.url}/v1", place.keys["webui"]
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        await client.chat.completions.create(model="llama3.2", messages=CHAT["messages"], user="ann")
        await client.responses.create(model="llama3.2", input="hi", safety_identifier="ann")
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model="llama3.2", messages=CHAT["messages"], user="ann")
    assert refused.value.response.headers["x-should-retry"] == "false"  # it would be an hour


async def test_one_person_of_a_key_does_not_fill_the_queue_for_the_others(tmp_path: Path) -> None:
    key, entry = new_key("webui", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml", "end_users": {"trusted": ["webui"]}}}, {"queue": {"depth": 2}}]

    def call(person: str) -> bytes:
        fields = {"authorization": f"Bearer {key}", "x-openwebui-user-id": person}
        return request("POST", "/api/chat", CHAT, fields)

    async with Ollama() as sim:
        sim.fault("stall", route="/api/chat")
        backend = {"name": "b1", "url": sim.url, "slots": 1}
        async with running(backend, middleware=chain, folder=tmp_path) as proxy:
            clients = []
            for _ in range(3):
                clients.append(await Client.connect(proxy.address))
                await clients[-1].send(call("ann"))
                await sim.wait_for(lambda: sim.counters.active == 1)
                async with asyncio.timeout(10):  # nobody is told when a request begins to wait
                    while sum(proxy.app.scheduler.status().waiting.values()) < len(clients) - 1:  # noqa: ASYNC110
                        await asyncio.sleep(0)
            refused = await Client.connect(proxy.address)
            await refused.send(call("ann"))
            assert (await refused.read()).status == 503
            clients.append(await Client.connect(proxy.address))
            await clients[-1].send(call("bob"))
            assert (await clients[2].read()).status == 429  # ann's last one gave way
            assert proxy.app.scheduler.status().waiting == {"@webui": 2}
            for client in (*clients, refused):
                client.hang_up()
