"""proxy/commands/remote.py."""

import asyncio
from pathlib import Path

import pytest
import typer

from proxy.commands.remote import Failed, Remote
from proxy.simulator import Ollama
from tests.support.certificates import Authority
from tests.support.proxy import running


async def failed(url: str, path: str = "/-/status", key: str | None = None) -> str:
    with pytest.raises(Failed) as error:
        await asyncio.to_thread(Remote(url, key, None).look, path)
    return "\n".join(error.value.messages)


async def test_what_goes_wrong_is_said_with_what_to_do() -> None:
    async with Ollama() as sim, running(
        sim.url, middleware=[{"auth": {"addresses": [{"networks": ["127.0.0.1"], "identity": "me"}]}}, "access"]
    ) as proxy:
        assert "access: {routes: [..., ops]}" in await failed(proxy.url)
        assert "401" in await failed(proxy.url, key="op_nonesuch")
        assert "OLLAMA_PROXY_KEY" in await failed(proxy.url, key="op_nonesuch")
        assert "is it an ollama-proxy" in await failed(sim.url)
        assert "it did not answer JSON" in await failed(sim.url, "/")
    assert "cannot be reached" in await failed(proxy.url)


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://x"])
def test_an_address_that_is_none_ends_the_command(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        Remote(url, None, None).get("/-/status")
    assert url in capsys.readouterr().err


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    async with Ollama() as sim, running(sim.url, listen=f"unix:{path}"):
        status = await asyncio.to_thread(Remote(f"unix:{path}", None, None).get, "/-/status")
        assert status["version"]
        done = await asyncio.to_thread(Remote(f"unix:{path}", None, None).post, "/-/drain/b1")
        assert done["done"] == "drained b1"
