"""proxy/testing/proxies.py: a proxy runs from YAML text, and leaves the process as it was."""

import logging
from pathlib import Path

import httpx
import pytest
import structlog

from config.problems import Invalid
from proxy.testing import Ollama, temporary_proxy


async def test_it_serves_under_the_text_and_logs_what_it_did() -> None:
    async with Ollama("llama3.2") as host:
        policy = f"listen: 127.0.0.1:1\nbackends: [{{name: gpu, url: '{host.url}'}}]\nmiddleware: [logging]\n"
        async with temporary_proxy(policy, probes=False) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
            assert proxy.url == f"http://127.0.0.1:{proxy.address[1]}"
            reply = await client.post("/api/generate", json={"model": "llama3.2", "prompt": "hi", "stream": False})
            assert reply.json()["done"]
            line = await proxy.log.request()
        assert (line["status"], line["backend"], line["model"]) == (200, "gpu", "llama3.2:latest")
        assert [request.path for request in host.requests] == ["/api/generate"]


async def test_it_asks_the_hosts_how_they_are_unless_told_not_to() -> None:
    async with Ollama("llama3.2") as host:
        async with temporary_proxy(f"backends: [{{name: gpu, url: '{host.url}'}}]"):
            await host.wait_for(lambda: len(host.requests) > 0)


async def test_it_may_listen_where_the_text_says_and_find_files_in_a_folder(tmp_path: Path) -> None:
    text = f"listen: unix:{tmp_path}/p.sock\nbackends: [{{name: gpu, url: 'http://127.0.0.1:1'}}]"
    async with temporary_proxy(text, folder=tmp_path, listen=None, probes=False) as proxy:
        assert proxy.server.addresses == (f"unix:{tmp_path / 'p.sock'}",)


async def test_logging_is_as_it_was_afterwards() -> None:
    root = logging.getLogger()
    structlog.reset_defaults()
    before = (root.handlers[:], root.level, structlog.is_configured())
    async with temporary_proxy("backends: [{name: gpu, url: 'http://127.0.0.1:1'}]", probes=False) as outer:
        within = (root.handlers[:], structlog.get_config()["logger_factory"])
        async with temporary_proxy("backends: [{name: gpu, url: 'http://127.0.0.1:1'}]", probes=False):
            assert within != (root.handlers[:], structlog.get_config()["logger_factory"])
        assert within == (root.handlers[:], structlog.get_config()["logger_factory"])
        assert outer.server.serving
    assert before == (root.handlers[:], root.level, structlog.is_configured())


async def test_a_mistake_in_the_text_is_raised() -> None:
    with pytest.raises(Invalid, match="did you mean 'listen'"):
        async with temporary_proxy("lisen: x\nbackends: [{name: gpu, url: 'http://127.0.0.1:1'}]"):
            pass
