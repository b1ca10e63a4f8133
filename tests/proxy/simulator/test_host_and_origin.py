import socket

import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import ask


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:11434", "LOCALHOST", "127.0.0.1", "127.9.9.9:1", "[::1]:11434", "[::1]", "0.0.0.0",
        "192.168.1.7:11434", "10.0.0.1", "172.16.5.5", "gpu.local", "x.internal:99", "a.localhost", "",
        socket.gethostname(),
    ],
)  # fmt: skip
async def test_local_hosts_are_served(host: str) -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "GET", "/api/version", None, f"Host: {host}")).status == 200


@pytest.mark.parametrize("host", ["evil.example", "8.8.8.8", "localhost.evil.example", "proxy", "2001:db8::1", "local"])
async def test_foreign_hosts_are_refused_with_nothing(host: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "GET", "/api/version", None, f"Host: {host}")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (403, b"", "0")
        assert "content-type" not in answer.headers
        sim.settings.check_host = False
        assert (await ask(sim, "GET", "/api/version", None, f"Host: {host}")).status == 200


async def test_hosts_are_not_checked_beyond_loopback() -> None:
    async with Ollama(host="0.0.0.0") as sim:
        assert (await ask(sim, "GET", "/", None, "Host: evil.example")).status == 200


@pytest.mark.parametrize(
    "origin",
    ["http://localhost", "https://localhost:3000", "http://127.0.0.1:8080", "http://0.0.0.0", "app://obsidian",
     "tauri://localhost", "vscode-webview://x"],
)  # fmt: skip
async def test_ollama_s_own_origins(origin: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "GET", "/api/version", None, "Host: [::1]", f"Origin: {origin}")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "localhost", "chrome-extension://abc"]
)
async def test_foreign_origins_are_refused_with_nothing(origin: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/chat", {}, f"Origin: {origin}")
        assert (answer.status, answer.body) == (403, b"")


async def test_more_origins_may_be_allowed() -> None:
    async with Ollama(origins=("https://*.example",)) as sim:
        assert (await ask(sim, "GET", "/", None, "Origin: https://good.example")).status == 200
        assert (await ask(sim, "GET", "/", None, "Origin: https://good.exampleX")).status == 403
    async with Ollama(origins=("chrome-extension://*",)) as sim:
        assert (await ask(sim, "GET", "/", None, "Origin: chrome-extension://abc")).status == 200


async def test_an_origin_that_is_the_host_is_none() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "GET", "/", None, "Host: x.local:1", "Origin: http://x.local:1")
        assert (answer.status, "access-control-allow-origin" in answer.headers) == (200, False)


async def test_preflights() -> None:
    async with Ollama() as sim:
        answer = await ask(
            sim, "OPTIONS", "/api/chat", None, "Origin: http://localhost:3000", "Access-Control-Request-Method: POST"
        )
        assert (answer.status, answer.headers["access-control-max-age"]) == (204, "43200")
        assert "POST" in answer.headers["access-control-allow-methods"]
