"""proxy/kernel/caller_text.py."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.caller_text import masked_error, masked_path, masked_text, model_of
from proxy.kernel.errors import Outcome
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange, suppose

HOST = "ollama-production-gpu-node-a100-01"
KEY = "op_alice1234567_" + "s3cret" * 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ollama-python/0.6.2 (x86_64 linux) Python/3.11.7", "ollama-python/0.6.2 (x86_64 linux) Python/3.11.7"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ),
        ("OpenAI/Python 1.99.9", "OpenAI/Python 1.99.9"),
        (KEY, "***"),
        (f"curl/8 {KEY}", "curl/8 ***"),
        ("curl/8 Bearer abc.def-ghi", "curl/8 ***"),
        ("agent token=hunter2; x", "agent ***; x"),
        ("bot (+https://user:hunter2@example.com/)", "bot (+https://***@example.com/)"),
        ("sk-" + "a1" * 20, "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl", "***"),
        ("0123456789abcdef" * 4, "***"),
        ("y" * 300, "y" * 255 + "…"),
        ("", ""),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, shown: str) -> None:
    assert masked_text(text) == shown


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_key_is_found_wherever_it_stands(before: str, after: str) -> None:
    assert KEY not in masked_text(f"{before} {KEY} {after}", 512)


@pytest.mark.parametrize("begin", range(0, 300, 7))
def test_a_key_that_is_cut_is_masked_too(begin: int) -> None:
    shown = masked_text("x" * begin + " " + KEY)
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the queue is full", "the queue is full"),
        ("model 'llama3.2' not found", "model 'llama3.2' not found"),
        (f"model '{KEY}' not found", "model '***' not found"),
        (f'the key "{KEY}" stands twice', 'the key "***" stands twice'),
        (f"cannot reach {HOST}", f"cannot reach {HOST}"),
        ("x" * 600, "x" * 511 + "…"),
    ],
)  # fmt: skip
def test_errors_lose_it_where_they_quote(message: str, shown: str) -> None:
    assert masked_error(message) == shown


async def asked_for(
    model: str, *, status: int, committed: bool = False, outcome: Outcome = "completed", path: str = "/api/chat"
) -> Exchange:
    exchange = make_exchange(path=path, body=orjson.dumps({"model": model}))
    await exchange.json()
    suppose(exchange, status=status, committed=committed, outcome=outcome)
    return exchange


@pytest.mark.parametrize(("status", "committed"), [(404, False), (404, True), (403, False), (502, False), (200, False)])
async def test_a_model_that_nobody_has_may_be_a_key(status: int, committed: bool) -> None:
    assert model_of(await asked_for(KEY, status=status, committed=committed)) == "***:latest"


@pytest.mark.parametrize("path", ["/api/pull", "/api/show", "/api/create"])
async def test_an_answer_about_a_model_is_none_of_the_model(path: str) -> None:
    """Ollama says 200 to a pull of what is nowhere, and then that there is no such thing."""
    assert model_of(await asked_for(KEY, status=200, committed=True, path=path)) == "***:latest"
    assert model_of(await asked_for(KEY, status=404)) == "***:latest"


@pytest.mark.parametrize("outcome", ["upstream_failed", "upstream_truncated", "client_gone"])
async def test_an_answer_that_did_not_come_whole_says_nothing_of_the_model(outcome: Outcome) -> None:
    assert model_of(await asked_for(KEY, status=200, committed=True, outcome=outcome)) == "***:latest"


async def test_a_model_that_a_backend_has_answered_for_is_none_from_then_on() -> None:
    name = "DeepSeek-R1-Distill-Qwen-32B-Instruct-GGUF"
    shown = f"{name.lower()}:latest"
    assert model_of(await asked_for(name, status=502)) == "***:latest"
    assert model_of(await asked_for(name, status=200, committed=True)) == shown
    assert model_of(await asked_for(name, status=502)) == shown


def test_without_a_model_there_is_no_name() -> None:
    assert model_of(make_exchange()) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/nothing", "/api/nothing"),
        ("/k/op_secret/api/chat", "/k/***/api/chat"),
        ("/k/short", "/k/***"),
        ("/K//short/api", "/K//***/api"),
        ("/prefix/k/short/k/again", "/prefix/k/***/k/***"),
        ("/kk/short", "/kk/short"),
        ("/op_4fQn0ZrT7LkP_x/api/chat", "/***/api/chat"),
        ("/api/sk-abc", "/api/***"),
        ("/x/" + "a" * 24, "/x/" + "a" * 24),
        ("/x/" + "a" * 25 + "/y", "/x/***/y"),
        ("/api/chat?key=secret", "/api/chat"),
        ("/api/chat;key=secret", "/api/chat"),
        ("/api/chat#secret\nsecret", "/api/chat"),
        ("", ""),
    ],
)
def test_a_path_that_no_route_has_is_masked(path: str, expected: str) -> None:
    assert masked_path(path) == expected
