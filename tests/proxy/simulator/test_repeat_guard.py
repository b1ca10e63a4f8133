from typing import Any

import pytest

from proxy.simulator import Ollama
from proxy.simulator.repeat_guard import LIMIT, RepeatGuard
from tests.proxy.simulator.client import Answer, ask


def delivered(*texts: str) -> int:
    """Return how many of `texts` are let through."""
    guard = RepeatGuard()
    return next((number for number, text in enumerate(texts) if guard.trips(text)), len(texts))


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (["la"] * 40, LIMIT + 1),
        ([" la", "la ", "la", "\nla"] * 10, LIMIT + 1),
        (["{", *["  ", "\n", "    "] * 20], LIMIT + 2),  # JSON mode: white space equals white space
        (["  "] * 40, LIMIT),  # as if a blank piece stood before the first
        (["la", "li"] * 40, 80),
        ([*["la"] * 31, *["li"] * 31], 62),
    ],
)
def test_thirty_repeats_in_a_row_end_the_answer(texts: list[str], count: int) -> None:
    assert delivered(*texts) == count


ASK: dict[str, Any] = {
    "model": "llama3.2",
    "messages": [{"role": "user", "content": "hi"}],
    "prompt": "hi",
    "input": "hi",
    "max_tokens": 99,
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
ENDS = {
    "/api/generate": b'"done":true',
    "/api/chat": b'"done":true',
    "/v1/chat/completions": b"[DONE]",
    "/v1/completions": b"[DONE]",
    "/v1/responses": b"response.completed",
    "/v1/messages": b"message_stop",
}


async def looping(path: str, after: int = 2, data: bytes = b" la", **more: Any) -> Answer:
    """Return the answer of a model that says `data` for ever behind `after` other pieces."""
    async with Ollama(call_tools=False) as sim:
        sim.fault("repeat", after=after, data=data)
        return await ask(sim, "POST", path, {**ASK, **more})


@pytest.mark.parametrize("path", ENDS)
async def test_a_stream_of_a_model_that_loops_ends_cleanly_without_terminator(path: str) -> None:
    answer = await looping(path, stream=True)
    assert (answer.status, answer.end) == (200, "clean")
    assert ENDS[path] not in answer.body
    assert answer.body.count(b'" la"') == LIMIT + 1
    assert b'finish_reason":"' not in answer.body


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/api/generate", {"done": False}),
        ("/api/chat", {"done": False}),
        ("/v1/chat/completions", {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}),
        ("/v1/messages", {"usage": {"input_tokens": 0, "output_tokens": 0}}),
    ],
)
async def test_an_answer_that_is_not_streamed_is_not_done(path: str, members: dict[str, Any]) -> None:
    answer = await looping(path, stream=False)
    body = answer.json()
    assert {name: body[name] for name in members} == members
    assert answer.body.count(b" la") == LIMIT + 1
    assert not {"done_reason", "eval_count", "stop_reason"} & set(body)
    if "choices" in body:
        assert body["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_behind_the_tool_parser_the_answer_is_empty(path: str) -> None:
    answer = await looping(path, after=0, data=b"{", stream=True, tools=TOOLS)
    assert (answer.status, answer.end, answer.body) == (200, "clean", b"")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-type"] == "application/x-ndjson"
    whole = (await looping(path, after=0, data=b"{", stream=False, tools=TOOLS)).json()
    assert (whole["model"], whole.get("done", False)) == ("", False)


async def test_the_next_request_is_answered_as_ever() -> None:
    async with Ollama() as sim:
        sim.fault("repeat")
        await ask(sim, "POST", "/api/chat", ASK)
        assert (await ask(sim, "POST", "/api/chat", ASK)).lines()[-1]["done"] is True
        assert (sim.counters.generating, sim.requests[0].state) == (0, "done")


async def test_what_the_cloud_sends_in_other_chunks_is_all_there() -> None:
    async with Ollama() as sim:
        sim.fault("repeat")
        answer = await ask(sim, "POST", "/api/chat", {**ASK, "model": "gpt-oss:120b-cloud"})
        assert answer.body.count(b'" la"') == LIMIT + 1
        assert answer.body.endswith(b'"done":false}\n')
