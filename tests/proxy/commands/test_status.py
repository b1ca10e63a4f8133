"""proxy/commands/status.py, and the commands beside it that talk to a running proxy, over a real socket."""

import asyncio
import json
from typing import Any

from rich.console import Console
from typer.testing import CliRunner, Result

from proxy.cli import main
from proxy.commands.status import view
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def invoke(proxy: Running, command: str, *arguments: str) -> Result:
    environment = {"OLLAMA_PROXY_URL": proxy.url, "COLUMNS": "200", "TERM": "dumb"}
    return await asyncio.to_thread(CliRunner(env=environment).invoke, main, [command, *arguments])


async def test_it_shows_what_the_proxy_does() -> None:
    limit = {"rate_limit": {"requests": "5/minute", "by": "address"}}
    async with (
        Ollama(tokens=1000, token_delay=0.01) as sim,
        running({"name": "gpu-1", "url": sim.url, "slots": 1}, middleware=[limit, "queue"]) as proxy,
    ):
        await ask(proxy.address, "POST", "/api/chat", {**CHAT, "model": "nonesuch"})
        clients = [await Client.connect(proxy.address) for _ in range(2)]
        for client in clients:
            await client.send(request("POST", "/api/chat", CHAT))
            if client is clients[0]:
                await client.read_head()
        await eventually(lambda: bool(proxy.app.scheduler.status().waiting))
        result = await invoke(proxy, "status")
        assert result.exit_code == 0, result.output
        for text in (
            "ollama-proxy 0.",
            "ready",
            "rate_limit → queue → dispatch",
            "gpu-1",
            "1/1",
            "llama3.2:latest",
            "answering",
            "queued",
            "Queue: 1 waiting",
            "3 of 5 requests per minute",
            "nonesuch:latest",
        ):
            assert text in result.stdout, f"{text!r} is not in\n{result.stdout}"
        for client in clients:
            await client.close()


async def test_as_json_for_programs() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        result = await invoke(proxy, "status", "--json")
        assert json.loads(result.stdout)["backends"][0]["name"] == "b1"


async def test_it_exits_with_1_where_nothing_can_be_served() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        proxy.app.pool.backends[0].health.draining = True
        result = await invoke(proxy, "status")
        assert (result.exit_code, "not ready: no backend can be used" in result.stdout) == (1, True)


def test_what_a_stranger_wrote_is_no_markup() -> None:
    request_ = dict.fromkeys(
        ("model", "route", "backend", "state", "first_byte", "tokens_per_second", "error", "reason")
    )
    request_ |= {"identity": "[bold red]x[/] \x1b[31m", "seconds": 1.0, "chunks": 1, "id": "1", "client": "c"}
    status: dict[str, Any] = {
        "version": "1",
        "uptime": 1,
        "ready": {"ready": True, "reason": ""},
        "config": {"generation": 1, "age": 1, "file": "f", "chain": "c", "problems": ["p"], "restart": []},
        "backends": [],
        "requests": [request_],
        "queue": {"waiting": 0},
        "limits": [],
        "journal": {"home": "memory", "durable": False, "reached": True, "counts": {}, "entries": []},
        "workers": [],
        "recent": None,
    }
    console = Console(width=200, force_terminal=True, record=True)
    with console.capture() as captured:
        console.print(*view(status))
    assert "[bold red]x[/]" in captured.get()
    assert "\x1b[31m" not in captured.get().split("[bold red]x[/]")[1].split("\n")[0]
    assert "The policy file was refused" in captured.get()
