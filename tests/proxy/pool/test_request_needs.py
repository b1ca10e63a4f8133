"""proxy/pool/request_needs.py."""

from typing import Any

import orjson
import pytest

from proxy.pool.request_needs import NOTHING, need_of
from proxy.testing import make_exchange

M = "registry.ollama.ai/library/m:latest"


@pytest.mark.parametrize(
    ("path", "body", "model", "runs", "setup"),
    [
        ("/api/chat", {"model": "M"}, M, True, ()),
        ("/v1/chat/completions", {"model": "m"}, M, True, ()),
        ("/api/embed", {"model": "m", "options": {"num_ctx": 8192}}, M, True, (("num_ctx", 8192),)),
        (
            "/api/chat",
            {"model": "m", "options": {"use_mmap": False, "num_ctx": 4096, "temperature": 1}},
            M,
            True,
            (("num_ctx", 4096), ("use_mmap", False)),
        ),
        ("/api/chat", {"model": "m", "options": {"num_ctx": "8192"}}, M, True, ()),
        ("/api/chat", {"model": "m", "options": {"num_ctx": None}}, M, True, ()),
        ("/api/chat", {"model": "m", "options": [1]}, M, True, ()),
        ("/api/chat", {"model": "m", "shift": False}, M, True, (("shift", False),)),
        ("/api/generate", {"model": "m", "shift": False, "prompt": "x"}, M, True, (("shift", False),)),
        ("/api/generate", {"model": "m", "shift": True}, M, True, ()),
        ("/api/embed", {"model": "m", "shift": False}, M, True, ()),
        ("/v1/chat/completions", {"model": "m", "shift": False}, M, True, ()),
        ("/api/chat", {"model": "m", "options": {"shift": False}}, M, True, ()),
        ("/api/chat", {"model": "m", "options": {"draft_num_predict": 2}}, M, True, (("draft_num_predict", 2),)),
        ("/api/chat", {"model": "m", "options": {"num_gpu": -1}}, M, True, ()),
        ("/api/chat", {"model": "m", "options": {"num_gpu": 0}}, M, True, (("num_gpu", 0),)),
        ("/api/chat", {"model": "gpt-oss:120b-cloud"}, "registry.ollama.ai/library/gpt-oss:120b@cloud", False, ()),
        ("/api/show", {"model": "m"}, M, False, ()),
        ("/api/pull", {"model": "m"}, None, False, ()),
        ("/api/copy", {"source": "m", "destination": "n"}, None, False, ()),
        ("/api/chat", {}, None, False, ()),
        ("/nothing", {"model": "m"}, None, False, ()),
    ],
)
async def test_what_a_request_needs(path: str, body: dict[str, Any], model: str | None, runs: bool, setup: Any) -> None:
    exchange = make_exchange("POST", path, body=orjson.dumps(body))
    await exchange.body()
    need = need_of(exchange)
    assert (need.model, need.runs, need.setup) == (model, runs, setup)


@pytest.mark.parametrize(
    ("body", "runs", "only", "slot_of"),
    [
        ({"model": "m", "prompt": "hi"}, True, None, M),
        ({"model": "m"}, True, "load", None),
        ({"model": "m", "keep_alive": 0}, False, "unload", None),
    ],
)
async def test_a_request_without_a_prompt_takes_no_slot(
    body: dict[str, Any], runs: bool, only: str | None, slot_of: str | None
) -> None:
    exchange = make_exchange("POST", "/api/generate", body=orjson.dumps(body))
    await exchange.body()
    need = need_of(exchange)
    assert (need.model, need.runs, need.only, need.slot_of) == (M, runs, only, slot_of)


async def test_a_derived_model_is_had_by_its_name_and_runs_as_its_base() -> None:
    body = {"model": "m:latest-ctx8k-by-proxy", "messages": [{"role": "user", "content": "hi"}]}
    exchange = make_exchange("POST", "/api/chat", body=orjson.dumps(body))
    await exchange.body()
    need = need_of(exchange)
    assert (need.model, need.runner, need.slot_of) == ("registry.ollama.ai/library/m:latest-ctx8k-by-proxy", M, M)


async def test_it_is_found_out_once_and_again_when_the_body_changes() -> None:
    exchange = make_exchange(body=b'{"model":"m"}')
    assert need_of(exchange) is NOTHING
    await exchange.body()
    need = need_of(exchange)
    assert need.model == M
    assert need_of(exchange) is need
    await exchange.json()
    exchange.edit({"model": "n"})
    assert need_of(exchange).model == "registry.ollama.ai/library/n:latest"


async def test_the_path_names_a_model_too() -> None:
    assert need_of(make_exchange("GET", "/v1/models/m")).model == M


async def test_what_a_request_needs_is_known_when_its_body_is_gone() -> None:
    exchange = make_exchange("POST", "/api/chat", body=b'{"model":"m","options":{"num_ctx":8}}')
    await exchange.body()
    need = need_of(exchange)
    exchange.release_body()
    assert need_of(exchange) is need
    assert need.setup == (("num_ctx", 8),)


@pytest.mark.parametrize(
    ("path", "embeds"),
    [("/api/embed", True), ("/api/embeddings", True), ("/v1/embeddings", True), ("/api/chat", False)],
)
async def test_whether_it_asks_for_embeddings(path: str, embeds: bool) -> None:
    exchange = make_exchange("POST", path, body=b'{"model":"m"}')
    await exchange.body()
    assert need_of(exchange).embeds is embeds
