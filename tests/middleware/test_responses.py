"""Going on from an earlier response, over real sockets."""

import asyncio
from typing import Any

import orjson
import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.kernel.journal import Query
from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import Reply, ask

PATH = "/v1/responses"
CHAIN: list[Any] = ["logging", "responses", "retry"]


async def say(proxy: Running, text: object, *, key: str | None = None, **more: Any) -> Reply:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return await ask(proxy.address, "POST", PATH, {"model": "llama3.2", "input": text, **more}, headers)


def response_of(reply: Reply) -> dict[str, Any]:
    """Return the response object of an answer, streamed or not."""
    if reply.headers["content-type"].startswith("text/event-stream"):
        last = reply.body.rsplit(b"data: ", 1)[1]
        return orjson.loads(last)["response"]  # type: ignore[no-any-return]
    return orjson.loads(reply.body)  # type: ignore[no-any-return]


def sent(sim: Ollama) -> dict[str, Any]:
    """Return the last request that the backend got."""
    return orjson.loads(sim.requests[-1].body)  # type: ignore[no-any-return]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_said_before_stands_in_front(stream: bool) -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        first = response_of(await say(proxy, "one", stream=stream))
        second = response_of(await say(proxy, "two", previous_response_id=first["id"], stream=stream))
        assert (await say(proxy, "three", previous_response_id=second["id"])).status == 200
        asked = sent(sim)
        assert asked["previous_response_id"] is None
        said = [item["content"] for item in asked["input"] if item["role"] == "user"]
        assert said == ["one", "two", "three"]
        assert asked["input"][1:-2:2] == [*first["output"], *second["output"]][:1]
        assert asked["input"][3] == second["output"][0]


async def test_a_tool_call_and_its_result_go_on() -> None:
    call = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        first = response_of(await say(proxy, [{"role": "user", "content": "weather?"}]))
        await say(proxy, [call], previous_response_id=first["id"])
        assert sent(sim)["input"] == [{"role": "user", "content": "weather?"}, *first["output"], call]


@pytest.mark.parametrize("chain", [CHAIN, ["logging", "retry"]], ids=["unknown", "without the plugin"])
async def test_what_is_not_kept_is_not_found(chain: list[Any]) -> None:
    async with Ollama() as sim, running(sim.url, middleware=chain) as proxy:
        reply = await say(proxy, "hi", previous_response_id="resp_1")
        assert (reply.status, reply.headers["x-error-code"]) == (404, "previous_response_not_found")
        error = orjson.loads(reply.body)["error"]
        assert (error["code"], error["param"]) == ("previous_response_not_found", "previous_response_id")
        assert error["type"] == "invalid_request_error"
        assert not sim.requests
        assert (await say(proxy, "hi", previous_response_id=None)).status == 200


@pytest.mark.parametrize("named", [5, ["resp_1"], {"id": "resp_1"}, "", "\ud800"])
async def test_a_name_that_is_none_is_not_found(named: object) -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        assert (await say(proxy, "hi", previous_response_id=named)).status in (400, 404)
        assert not sim.requests


async def test_store_false_leaves_nothing_behind() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        first = response_of(await say(proxy, "one", store=False))
        assert (await say(proxy, "two", previous_response_id=first["id"])).status == 404


async def test_only_who_sent_it_can_go_on_from_it(tmp_path: Any) -> None:
    keys = {}
    for name in ("alice", "bob"):
        keys[name], entry = new_key(name, now=0.0)
        add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml"}}, "responses"]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy:
        first = response_of(await say(proxy, "one", key=keys["alice"]))
        assert (await say(proxy, "x", key=keys["bob"], previous_response_id=first["id"])).status == 404
        assert (await say(proxy, "x", key=keys["alice"], previous_response_id=first["id"])).status == 200


async def test_a_conversation_beyond_its_bound_is_refused() -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", {"responses": {"size": "2KiB"}}]) as proxy:
        first = response_of(await say(proxy, "x" * 500))
        reply = await say(proxy, "y" * 2000, previous_response_id=first["id"])
        assert (reply.status, reply.headers["x-error-code"]) == (413, "conversation_too_long")
        long = response_of(await say(proxy, "z" * 2100))
        assert (await say(proxy, "more", previous_response_id=long["id"])).status == 404


async def test_a_body_that_can_be_read_in_two_ways_is_refused() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        reply = await ask(proxy.address, "POST", PATH, b'{"previous_response_id":null,"previous_response_id":"resp_1"}')
        assert reply.status == 400
        assert not sim.requests


BACKGROUND: list[Any] = ["logging", "responses", "defer", "queue", "retry"]


async def over(proxy: Running, id: str) -> dict[str, Any]:
    """Return a response in background mode when it is over."""
    async with asyncio.timeout(20):
        await proxy.app.journal.wait_for_change(id, 2**62, 20)
    return orjson.loads((await ask(proxy.address, "GET", f"{PATH}/{id}")).body)  # type: ignore[no-any-return]


async def test_conversations_go_through_the_background_and_back() -> None:
    async with Ollama() as sim, running(sim.url, middleware=BACKGROUND) as proxy:
        first = response_of(await say(proxy, "one"))
        second = response_of(await say(proxy, "two", previous_response_id=first["id"], background=True))
        assert (await over(proxy, second["id"]))["status"] == "completed"
        assert (await say(proxy, "three", previous_response_id=second["id"])).status == 200
        assert [item["content"] for item in sent(sim)["input"] if item["role"] == "user"] == ["one", "two", "three"]
        assert (await say(proxy, "x", previous_response_id="resp_none", background=True)).status == 404


async def test_of_a_response_in_the_background_that_is_deleted_nothing_is_left() -> None:
    async with Ollama() as sim, running(sim.url, middleware=BACKGROUND) as proxy:
        made = response_of(await say(proxy, "my secret", background=True))
        await over(proxy, made["id"])
        assert (await ask(proxy.address, "DELETE", f"{PATH}/{made['id']}")).status == 200
        assert (await say(proxy, "x", previous_response_id=made["id"])).status == 404
        assert await proxy.app.journal.entries(Query()) == []


async def test_what_was_answered_at_once_is_no_response_in_the_background() -> None:
    async with Ollama() as sim, running(sim.url, middleware=BACKGROUND) as proxy:
        made = response_of(await say(proxy, "one"))
        at = f"{PATH}/{made['id']}"
        assert orjson.loads((await ask(proxy.address, "GET", at)).body) == made
        for method, path in [("GET", f"{at}?stream=true"), ("POST", f"{at}/cancel")]:
            refused = await ask(proxy.address, method, path)
            assert (refused.status, b"only a response in background mode" in refused.body) == (400, True)
        [item] = orjson.loads((await ask(proxy.address, "GET", f"{at}/input_items")).body)["data"]
        assert item["content"] == [{"type": "input_text", "text": "one"}]
        for ending in ("?stream=true", "/input_items"):
            assert (await ask(proxy.address, "GET", f"{PATH}/resp_none{ending}")).status == 404
