"""proxy/commands/explain.py."""

import json
from pathlib import Path

import pytest

from proxy.commands.explain import SIGNS, request_of
from proxy.ops.document_types import Step
from proxy.simulator import Ollama
from tests.support.cli import run, run_beside
from tests.support.proxy import running

ACCESS = {"access": {"models": ["llama*"], "routes": ["inference", "ops"]}}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "p.yaml"
    path.write_text(
        "backends: [{name: b1, url: 'http://127.0.0.1:1'}]\n"
        "middleware: [logging, {access: {models: ['llama*']}}, retry]\n"
    )
    return str(path)


def test_the_document_has_only_what_was_said(tmp_path: Path) -> None:
    body, claims = tmp_path / "body.json", tmp_path / "claims.json"
    body.write_text('{"model": "llama3.2"}')
    claims.write_text('{"sub": "ann"}')
    assert request_of("get", "/api/tags", None, None, None, None, None) == {"method": "GET", "path": "/api/tags"}
    assert request_of("post", "/api/chat", "ann", claims, "m", body, "192.0.2.1") == {
        "method": "POST",
        "path": "/api/chat",
        "as": "ann",
        "model": "m",
        "address": "192.0.2.1",
        "claims": {"sub": "ann"},
        "body": {"model": "llama3.2"},
    }


def test_every_verdict_has_a_sign() -> None:
    assert set(SIGNS) == set(Step.__annotations__["verdict"].__args__)


def test_a_request_that_passes(file: str) -> None:
    said = run("explain", "POST", "/api/chat", "--model", "llama3.2", "-c", file).out
    lines = said.splitlines()
    assert lines[0].split(maxsplit=1) == ["route", "/api/chat (inference)"]
    assert lines[1].split(maxsplit=1) == ["model", "llama3.2:latest"]
    assert lines[2].split(maxsplit=1) == ["caller", "nobody, tenant -, policy -"]
    assert [line.split()[1] for line in lines[3:6]] == ["logging", "access", "retry"]
    assert "✗" not in said


def test_the_first_that_refuses_is_the_last(file: str) -> None:
    said = run("explain", "post", "/api/chat", "--model", "qwen3", "-c", file, code=1).out
    assert said.splitlines()[-1].startswith("✗ access")
    assert "retry" not in said


def test_what_its_parts_have_to_say_is_apart_from_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("backends: [{name: b1, url: 'http://127.0.0.1:1'}]\nmiddleware: [{auth: {keys: none.yaml}}]\n")
    said = run("explain", "POST", "/api/chat", "--as", "ann", "-c", str(path), code=1)
    assert "auth_file_missing" in said.error
    assert "none.yaml" not in said.out


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), ("{", "is not JSON"), ("[]", "can only be put into a body")]
)
def test_a_body_that_cannot_be_used(file: str, tmp_path: Path, content: str | None, said: str) -> None:
    body = tmp_path / "body.json"
    if content is not None:
        body.write_text(content)
    result = run("explain", "POST", "/api/chat", "--model", "a", "--body", str(body), "-c", file, code=1)
    assert said in result.error


async def test_a_running_proxy_explains_and_sends_nothing(tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "llama3.2", "messages": []}))
    async with Ollama() as sim, running(sim.url, middleware=["logging", ACCESS]) as proxy:
        ask = ("explain", "POST", "/api/chat", "--body", str(body), "--url", proxy.url)
        assert "llama3.2:latest" in (await run_beside(*ask)).out
        said = (await run_beside(*ask, "--model", "qwen3", code=1)).out
        assert said.splitlines()[-1].startswith("✗ access")
        assert sim.counters.requests == 0
