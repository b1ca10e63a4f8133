"""A client whose connection broke gets the rest of its answer: each byte once and in order."""

from typing import Any

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
API = {"use": "tests.support.records_api:RecordsApi"}
CHAIN = ["logging", {"resumable": {"grace": "30s"}}, API, "retry"]


async def begin(proxy: Running, path: str = "/api/chat", **more: Any) -> tuple[Client, Reply, str]:
    client = await Client.connect(proxy.address)
    await client.send(request("POST", path, {**CHAT, **more}))
    head = await client.read_head()
    return client, head, head.headers["link"].split(">")[0][1:]


async def test_a_broken_connection_is_resumed() -> None:
    async with Ollama(tokens=60, token_delay=0.01) as ollama, running(ollama.url, middleware=CHAIN) as proxy:
        client, head, answer = await begin(proxy)
        assert answer == f"/-/requests/{head.headers['x-request-id']}/answer"
        seen = await client.read_chunk() + await client.read_chunk()
        client.hang_up(reset=True)
        rest = await ask(proxy.address, "GET", answer, headers={"Range": f"bytes={len(seen)}-"})
        assert rest.status == 206 and rest.clean
        whole = await ask(proxy.address, "GET", answer)
        assert whole.body == seen + rest.body
        assert whole.body.endswith(b"\n") and b'"done":true' in whole.body
        await eventually(lambda: len(proxy.log.requests) == 3)
        first = next(line for line in proxy.log.requests if line["route"] == "/api/chat")
        assert (first["outcome"], first["detached"]) == ("completed", True)
