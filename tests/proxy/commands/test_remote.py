"""proxy/commands/remote.py."""

import asyncio
from pathlib import Path

import pytest
import typer

from proxy.commands.remote import Failed, Remote
from proxy.simulator import Ollama
from tests.support.certificates import Authority
from tests.support.proxy import running

AUTH = {"auth": {"addresses": [{"network": "127.0.0.1", "identity": "me"}]}}


async def failed(url: str, path: str = "/-/status", key: str | None = None) -> str:
    with Remote(url, key, None) as remote, pytest.raises(Failed) as error:
        await asyncio.to_thread(remote.look, path)
    return "\n".join(error.value.messages)


async def test_what_goes_wrong_is_said_with_what_to_do() -> None:
    async with Ollama() as sim, running(sim.url, middleware=[AUTH, "access"]) as proxy:
        assert "access: {routes: [..., ops]}" in await failed(proxy.url)
        assert "OLLAMA_PROXY_KEY" in await failed(proxy.url, key="op_nonesuch")
        assert "is it an ollama-proxy" in await failed(sim.url)
        unknown = await failed(proxy.url, "/-/assets/none.css")
        assert "there is no such file" in unknown
        assert "is it an ollama-proxy" not in unknown
        assert "it did not answer JSON" in await failed(sim.url, "/")
    assert "cannot be reached" in await failed(proxy.url)


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://x"])
def test_an_address_that_is_none_ends_the_command(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), Remote(url, None, None) as remote:
        remote.get("/-/status")
    assert url in capsys.readouterr().err


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    async with Ollama() as sim, running(sim.url, listen=f"unix:{path}"):
        with Remote(f"unix:{path}", None, None) as remote:
            status = await asyncio.to_thread(remote.get, "/-/status")
            done = await asyncio.to_thread(remote.post, "/-/drain/b1")
        assert status["version"]
        assert done["done"] == "drained b1"


async def test_over_tls_with_a_ca_of_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("localhost", "127.0.0.1")
    async with Ollama() as sim, running(sim.url, tls={"cert": pair.cert, "key": pair.key}) as proxy:
        url = proxy.url.replace("http://", "https://")
        with Remote(url, None, Path(authority.cert)) as remote:
            assert (await asyncio.to_thread(remote.get, "/-/healthz")) == {"status": "ok"}
        assert "cannot be reached" in await failed(url)
