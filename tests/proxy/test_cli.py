"""proxy/cli.py, as processes where the process is the point."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from proxy import __version__
from proxy.cli import main
from proxy.simulator import Ollama
from tests.support.process import start_process
from tests.support.wire import ask

ROOT = Path(__file__).parents[2]
runner = CliRunner()


async def start(*arguments: str, cwd: Path) -> asyncio.subprocess.Process:
    return await start_process(
        sys.executable,
        "-m",
        "proxy.cli",
        *arguments,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    assert stream is not None
    seen = []
    async with asyncio.timeout(30):
        async for raw in stream:
            seen.append(raw.decode())
            if text in seen[-1]:
                return seen[-1]
    raise AssertionError(f"{text!r} was never said: {seen}")


def test_version() -> None:
    assert runner.invoke(main, ["--version"]).stdout == f"ollama-proxy {__version__}\n"


def test_check_shows_what_a_file_comes_to(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("backends: [{name: a, url: 'http://u:canary@127.0.0.1:1'}]\n")
    result = runner.invoke(main, ["check", "-c", str(file)])
    assert result.exit_code == 1
    assert "canary" not in result.output
    file.write_text("backends: [{name: a, url: 'http://127.0.0.1:1'}]\nmiddleware: [logging]\n")
    result = runner.invoke(main, ["check", "-c", str(file)])
    assert result.exit_code == 0
    assert "is fine" in result.stdout
    assert "logging → dispatch" in result.stdout


def test_check_wants_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(main, ["check"])
    assert result.exit_code == 1
    assert "name the policy file with -c" in result.output


def test_check_finds_plugins_beside_the_file_from_wherever_it_is_called(tmp_path: Path) -> None:
    policy, elsewhere = tmp_path / "policy", tmp_path / "elsewhere"
    (policy / "acme").mkdir(parents=True)
    elsewhere.mkdir()
    (policy / "acme" / "team.py").write_text("class OneTeam:\n    def __init__(self, app, *, team: str): ...\n")
    text = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\nmiddleware: [{'acme.team:OneTeam': {team: physics}}]\n"
    (policy / "p.yaml").write_text(text)
    (elsewhere / "link.yaml").symlink_to(policy / "p.yaml")
    (elsewhere / "alone.yaml").write_text(text)
    command = [str(Path(sys.executable).parent / "ollama-proxy"), "check", "-c"]
    for cwd, file in ((policy, "p.yaml"), (elsewhere, "../policy/p.yaml"), (elsewhere, "link.yaml"), (elsewhere, None)):
        done = subprocess.run([*command, file or "alone.yaml"], cwd=cwd, capture_output=True, text=True, check=False)
        if file is not None:
            assert (done.returncode, done.stderr) == (0, "")
            assert "acme.team:OneTeam → dispatch" in done.stdout
        else:
            assert done.returncode == 1
            assert f"No module named 'acme' (searched: the installed packages and {elsewhere})" in done.stderr


def test_check_lists_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("lisen: x\nbackends: [{name: a}]\n")
    result = runner.invoke(main, ["check", "-c", str(file)])
    assert result.exit_code == 1
    assert result.stderr.count(f"{file}:") == 2
    assert "did you mean 'listen'?" in result.stderr


def test_a_file_and_backends_do_not_go_together(tmp_path: Path) -> None:
    result = runner.invoke(main, ["serve", "-c", "x.yaml", "--backend", "http://127.0.0.1:1"])
    assert result.exit_code == 2


def test_beyond_this_machine_without_auth_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(main, ["serve", "--listen", "0.0.0.0:0"])
    assert result.exit_code == 1
    assert "auth" in result.stderr
    assert "allow_anonymous_network" in result.stderr


async def test_serve_without_a_file(tmp_path: Path) -> None:
    async with Ollama("llama3.2") as sim:
        process = await start("serve", "--backend", sim.url, "--listen", "127.0.0.1:0", cwd=tmp_path)
        first = await line_with(process.stderr, "listens on")
        found = await line_with(process.stderr, "backend ollama-1")
        assert "1 models (llama3.2:latest)" in found
        assert "logging → retry → dispatch" in await line_with(process.stderr, "chain")
        match = re.search(r"http://([\d.]+):(\d+)", first)
        assert match
        reply = await ask((match[1], int(match[2])), "POST", "/api/generate", {"model": "llama3.2", "prompt": "hi"})
        assert reply.clean
        process.send_signal(signal.SIGTERM)
        output, _ = await process.communicate()
        assert process.returncode == 0
        events = [orjson.loads(line) for line in output.splitlines()]
        assert [event["outcome"] for event in events if event["event"] == "request"] == ["completed"]


async def test_an_address_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    async with Ollama() as sim:
        process = await start("serve", "--backend", sim.url, "--listen", f"127.0.0.1:{sim.port}", cwd=tmp_path)
        _, said = await process.communicate()
        assert process.returncode == 1
        assert b"in use" in said
        assert b"Traceback" not in said


async def test_sighup_loads_the_file_again(tmp_path: Path) -> None:
    async with Ollama() as sim:
        file = tmp_path / "proxy.yaml"
        file.write_text(f"listen: 127.0.0.1:0\nbackends: [{{name: a, url: '{sim.url}'}}]\nmiddleware: [logging]\n")
        process = await start("serve", cwd=tmp_path)
        await line_with(process.stderr, "chain")
        process.send_signal(signal.SIGHUP)
        assert '"config_generation":2' in await line_with(process.stdout, "config_loaded")
        file.write_text("backends: []\n")
        assert "backends" in await line_with(process.stdout, "config_refused")
        process.send_signal(signal.SIGTERM)
        await process.communicate()
        assert process.returncode == 0
