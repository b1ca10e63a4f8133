import json
from functools import partial
from typing import Any

import pytest
import zstandard

from proxy.simulator import Model, Ollama
from proxy.simulator.inference import Splitter, decompress
from proxy.simulator.refusals import Refuse
from tests.proxy.simulator.client import Wire, ask, chat, encode

MESSAGES = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": MESSAGES, "options": {"num_predict": 3}},
    "/api/generate": {"prompt": "hi", "options": {"num_predict": 3}},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 3, "stream": True},
    "/v1/completions": {"prompt": "hi", "max_tokens": 3, "stream": True},
    "/v1/responses": {"input": "hi", "max_output_tokens": 3, "stream": True},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 3, "stream": True},
}


def body(route: str, model: str = "llama3.2", **more: Any) -> dict[str, Any]:
    """Return a streaming request to any of the generating routes, for three tokens."""
    return {**BODIES[route], "model": model, **more}


ROUTES = tuple(BODIES)
TERMINATORS = {
    "/api/chat": b'"done":true',
    "/api/generate": b'"done":true',
    "/v1/chat/completions": b"data: [DONE]\n\n",
    "/v1/completions": b"data: [DONE]\n\n",
    "/v1/responses": b"event: response.completed\n",
    "/v1/messages": b"event: message_stop\n",
}


@pytest.mark.parametrize("route", ROUTES)
async def test_streams_end_with_their_terminator(route: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", route, body(route))
        assert (answer.status, answer.end) == (200, "clean")
        assert TERMINATORS[route] in answer.chunks[-1]
        assert TERMINATORS[route] not in b"".join(answer.chunks[:-1])
        assert (sim.counters.tokens_generated, sim.last.tokens) == (3, 3)
        assert sim.last.model == "registry.ollama.ai/library/llama3.2:latest"


@pytest.mark.parametrize("route", ROUTES)
async def test_answers_that_do_not_stream_are_one_object(route: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", route, body(route, stream=False))
        assert answer.headers["content-type"].startswith("application/json")
        assert isinstance(answer.json(), dict)
        assert (len(answer.chunks), sim.last.tokens) == (1, 3)


@pytest.mark.parametrize("route", ROUTES)
async def test_only_ollama_s_own_routes_stream_by_default(route: str) -> None:
    async with Ollama() as sim:
        request = body(route)
        request.pop("stream", None)
        assert (len((await ask(sim, "POST", route, request)).chunks) > 1) == route.startswith("/api/")


@pytest.mark.parametrize("route", ROUTES)
async def test_missing_models(route: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", route, body(route, model="nope"))
        error = answer.json()["error"]
        assert answer.status == 404
        assert (error if isinstance(error, str) else error["message"]) == "model 'nope' not found"


@pytest.mark.parametrize("route", ROUTES)
async def test_a_dead_runner_by_flavor(route: str) -> None:
    """Before the first token it is a 500; after it only Ollama's own API tells, the others just end."""
    async with Ollama() as sim:
        sim.fault("error", message="it died")
        answer = await ask(sim, "POST", route, body(route))
        error = answer.json()["error"]
        assert (answer.status, error if isinstance(error, str) else error["message"]) == (500, "it died")
        sim.fault("error", message="it died", after=2)
        answer = await ask(sim, "POST", route, body(route))
        assert (answer.status, answer.end) == (200, "clean")
        assert (b"it died" in answer.body) == route.startswith("/api/")
        assert TERMINATORS[route] not in answer.body


@pytest.mark.parametrize("route", ROUTES[2:])
async def test_compatible_routes_take_zstd(route: str) -> None:
    packed = zstandard.compress(json.dumps(body(route)).encode())
    async with Ollama() as sim:
        answer = await ask(sim, "POST", route, packed, "Content-Encoding: zstd")
        assert answer.status == 200
        assert (await ask(sim, "POST", route, b"no zstd", "Content-Encoding: zstd")).status == 400


async def test_nothing_else_is_decompressed() -> None:
    packed = zstandard.compress(json.dumps(body("/api/chat")).encode())
    async with Ollama() as sim:
        assert (await ask(sim, "POST", "/api/chat", packed, "Content-Encoding: zstd")).status == 400


def test_a_bomb_is_refused() -> None:
    with pytest.raises(Refuse, match="too large"):
        decompress(zstandard.compress(b"0" * (21 << 20)))


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("nomic-embed-text", {}, '"nomic-embed-text" does not support chat'),
        ("llama3.2", {"think": True}, '"llama3.2" does not support thinking'),
        ("llama3.2:cloud:local", {}, 'use either :local or :cloud, not both: "llama3.2:cloud:local"'),
        ("../x", {}, "invalid model name"),
        (" ", {}, "model is required"),
    ],
)
async def test_what_is_refused(model: str, more: dict[str, Any], message: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/chat", chat(model=model, **more))
        assert (answer.status, answer.json()) == (400, {"error": message})


async def test_tools_need_a_model_that_can() -> None:
    async with Ollama(Model("plain", capabilities=("completion",))) as sim:
        tool = {"type": "function", "function": {"name": "f"}}
        assert (await ask(sim, "POST", "/api/chat", chat(model="plain", tools=[tool]))).status == 400


async def test_options_of_the_wrong_type() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/chat", chat(options={"num_ctx": "8192"}))
        assert (answer.status, answer.json()) == (500, {"error": 'option "num_ctx" must be of type integer'})


async def test_the_body_is_read_as_go_reads_it() -> None:
    raw = b'{"model":"nope","MODEL":"qwen3","stream":true,"Stream":false,"messages":[{"role":"user"}]} trailing'
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/chat", raw)
        assert (answer.json()["model"], sim.last.model) == ("qwen3", "registry.ollama.ai/library/qwen3:latest")


@pytest.mark.parametrize("route", ["/api/chat", "/api/generate"])
async def test_loading_and_unloading(route: str) -> None:
    async with Ollama() as sim:
        for reason, more in (("load", {}), ("load", {"keep_alive": "5m"}), ("unload", {"keep_alive": 0})):
            answer = await ask(sim, "POST", route, {"model": "llama3.2", **more})
            assert answer.headers["content-type"] == "application/json; charset=utf-8"
            assert (answer.json()["done_reason"], "eval_count" in answer.json()) == (reason, False)
            assert bool(sim.engine.loaded) == (reason == "load")
        assert (sim.counters.loads, sim.counters.unloads, sim.counters.tokens_generated) == (1, 1, 0)


async def test_the_queue_is_full() -> None:
    async with Ollama(max_queue=0, load_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.loading == 1)
        answer = await ask(sim, "POST", "/v1/messages", body("/v1/messages", model="qwen3"))
        assert answer.status == 503
        assert answer.json()["error"] == {
            "type": "overloaded_error",
            "message": "server busy, please try again.  maximum pending requests exceeded",
        }


def arrived(sim: Ollama, number: int) -> bool:
    return sim.counters.active == number


async def test_one_model_serves_one_at_a_time_in_the_order_of_arrival() -> None:
    async with Ollama(num_parallel=1) as sim:
        sim.fault("stall", "/api/chat", after=1, delay=0.05)
        wires = [await Wire.open(sim) for _ in range(4)]
        for number, wire in enumerate(wires, 1):
            await wire.send(encode("POST", "/api/chat", chat(2)))
            await sim.wait_for(partial(arrived, sim, number))
        for wire in wires:
            assert len((await wire.read()).lines()) == 3
            wire.hang_up()
        assert sim.counters.max_generating == 1


async def test_texts_are_the_same_in_every_flavor_of_streaming() -> None:
    async with Ollama() as sim:
        streamed = (await ask(sim, "POST", "/api/chat", chat(9))).lines()
        whole = (await ask(sim, "POST", "/api/chat", chat(9, stream=False))).json()
        assert "".join(line["message"]["content"] for line in streamed) == whole["message"]["content"]
        assert (streamed[-1]["eval_count"], whole["eval_count"], whole["done_reason"]) == (9, 9, "length")


async def test_tokens_keep_their_pace() -> None:
    async with Ollama(token_delay=0.01) as sim:
        last = (await ask(sim, "POST", "/api/chat", chat(10))).lines()[-1]
        assert last["eval_duration"] >= 0.09e9


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "gpt-oss:120b:cloud", "GPT-OSS:120b-CLOUD"])
@pytest.mark.parametrize("route", ROUTES)
async def test_cloud_models_come_in_arbitrary_chunks(route: str, model: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", route, body(route, model=model))
        assert answer.status == 200
        assert TERMINATORS[route] in answer.body
        assert sim.last.cloud
        assert sim.last.model == "registry.ollama.ai/library/gpt-oss:120b"
        assert sim.counters.loads == 0
        assert not all(chunk.endswith(b"\n") for chunk in answer.chunks)


async def test_the_cloud_knows_its_models_and_its_account() -> None:
    async with Ollama(cloud=("gpt-oss:120b",)) as sim:
        assert (await ask(sim, "POST", "/api/chat", chat(model="llama3.2:cloud"))).status == 404
        sim.settings.signed_in = False
        answer = await ask(sim, "POST", "/api/chat", chat(model="gpt-oss:120b-cloud"))
        assert (answer.status, set(answer.json())) == (401, {"error", "signin_url"})


async def test_a_stub_is_not_local() -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "POST", "/api/chat", chat(model="llama3.2:local"))).status == 200
        assert (await ask(sim, "POST", "/api/chat", chat(model="gpt-oss:120b:local"))).status == 404


def test_splitting_loses_nothing() -> None:
    splitter = Splitter(1)
    records = [bytes([number]) * (number + 1) for number in range(100)]
    chunks = [chunk for record in records for chunk in splitter.cut(record)]
    assert b"".join((*chunks, splitter.rest())) == b"".join(records)
    assert all(chunks)
    assert splitter.rest() == b""


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"options": {"num_gpu": "x"}}, 'option "num_gpu" must be of type integer'),
        ({"options": {"top_k": [1]}}, 'option "top_k" must be of type integer'),
        ({"format": "xml"}, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
    ],
)
async def test_mistakes_that_ollama_answers_with_500(more: dict[str, Any], text: str) -> None:
    async with Ollama() as sim:
        reply = await ask(sim, "POST", "/api/generate", {"model": "llama3.2", "prompt": "hi", **more})
        assert reply.status == 500
        assert reply.json() == {"error": text}


async def test_a_client_that_leaves_in_its_prompt_keeps_the_runner_to_the_end_of_the_batch() -> None:
    async with Ollama(prompt_delay=3600, batch=3600) as sim:
        async with await Wire.open(sim) as wire:
            await wire.send(encode("POST", "/api/chat", chat()))
            await sim.wait_for(lambda: sim.counters.generating == 1)
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        sim.settings.prompt_delay = 0
        async with await Wire.open(sim) as wire:
            await wire.send(encode("POST", "/api/chat", chat()))
            await sim.wait_for(lambda: sim.counters.waiting == 1)
            assert sim.counters.active == 1
            sim.finish_batches()
            assert (await wire.read()).status == 200


async def test_a_client_that_leaves_in_its_stream_frees_the_runner_at_once() -> None:
    async with Ollama(token_delay=3600, batch=3600) as sim:
        async with await Wire.open(sim) as wire:
            await wire.send(encode("POST", "/api/chat", chat()))
            await sim.wait_for(lambda: sim.counters.generating == 1)
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert sim.counters.generating == 0


async def test_an_unload_is_answered_whatever_runs() -> None:
    async with Ollama(prompt_delay=3600) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        answer = await ask(sim, "POST", "/api/generate", {"model": "llama3.2", "keep_alive": 0})
        assert answer.json()["done_reason"] == "unload"
        assert sim.counters.generating == 1
        wire.hang_up()
        await sim.wait_for(lambda: not sim.engine.loaded)


async def test_nothing_is_sent_while_a_tool_call_is_not_whole() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    async with Ollama(tool_tokens=5) as sim:
        answer = await ask(sim, "POST", "/api/chat", {"model": "llama3.2", "messages": MESSAGES, "tools": [tool]})
        call, last = answer.lines()
        assert call["message"]["tool_calls"][0]["function"]["name"] == "f"
        assert (last["eval_count"], sim.last.tokens) == (5, 5)
        cut = await ask(sim, "POST", "/api/chat", chat(2, tools=[tool]))
        (last,) = cut.lines()
        assert (last["done_reason"], last["message"]["content"][:2]) == ("length", '{"')
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
            more = {"messages": MESSAGES, "input": "hi", "max_tokens": 2, "max_output_tokens": 2}
            flat = {"name": "f", "input_schema": {"type": "object"}, "parameters": {"type": "object"}}
            tools = [tool] if path.endswith("completions") else [{"type": "function", **flat}]
            cut = await ask(sim, "POST", path, {"model": "llama3.2", "stream": True, "tools": tools, **more})
            assert cut.body.count(b'{\\"name') >= 1


@pytest.mark.parametrize(
    ("route", "more"),
    [
        ("/api/generate", {"options": {"stop": ["e"]}}),
        ("/api/chat", {"options": {"stop": ["e"]}}),
        ("/v1/chat/completions", {"stop": "e", "max_tokens": None}),
        ("/v1/messages", {"stop_sequences": ["e"], "max_tokens": 99}),
    ],
)
async def test_a_text_to_stop_at_ends_the_reply(route: str, more: dict[str, Any]) -> None:
    async with Ollama() as sim:
        answer = (await ask(sim, "POST", route, body(route, **more, stream=False))).json()
        choice = answer.get("choices", [answer])[0]
        content = choice.get("message", choice).get("content", answer.get("response"))
        text = content if isinstance(content, str) else "".join(block["text"] for block in content)
        assert "e" not in text
        assert "stop" in (answer.get("done_reason"), choice.get("finish_reason")) or answer["stop_reason"] == "end_turn"


async def test_logprobs_come_when_they_are_asked_for() -> None:
    async with Ollama() as sim:
        asked = {**chat(2), "logprobs": True, "top_logprobs": 3}
        first, _, last = (await ask(sim, "POST", "/api/chat", asked)).lines()
        assert [len(each["top_logprobs"]) for each in first["logprobs"]] == [3]
        assert first["logprobs"][0]["token"] == first["message"]["content"]
        assert "logprobs" not in last
        whole = (await ask(sim, "POST", "/api/chat", {**asked, "stream": False})).json()
        assert len(whole["logprobs"]) == 2


async def test_without_shift_the_context_ends_the_reply() -> None:
    async with Ollama() as sim:
        request = {"model": "llama3.2", "prompt": "hi", "shift": False, "options": {"num_ctx": 8, "num_predict": 99}}
        last = (await ask(sim, "POST", "/api/generate", request)).lines()[-1]
        assert (last["done_reason"], last["prompt_eval_count"] + last["eval_count"]) == ("length", 8)


@pytest.mark.parametrize(
    ("more", "status", "error"),
    [
        ({"suffix": "x"}, 400, "registry.ollama.ai/library/llama3.2:latest does not support insert"),
        ({"template": "{{ if }"}, 500, "template: :1: unclosed action"),
    ],
)
async def test_what_generate_refuses(more: dict[str, str], status: int, error: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/generate", {"model": "llama3.2", "prompt": "x", **more})
        assert (answer.status, answer.json()) == (status, {"error": error})
