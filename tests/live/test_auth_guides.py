"""The guides about keys, single sign-on and the Ollama CLI do what they say."""

import asyncio
import re
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from middleware.auth.authorized_keys import parse_authorized_keys
from middleware.auth.key_file_reader import parse_keys
from proxy.app import check
from proxy.commands.keys import commands
from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.ollama_cli import SSH_KEYGEN, OllamaKey
from tests.support.policy import load_text
from tests.support.proxy import Running, running
from tests.support.redis import redis_server
from tests.support.wire import Client, ask, request

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
NAMES = ("keys", "single-sign-on", "ollama-cli")


def blocks(name: str, language: str) -> list[str]:
    text = (GUIDES / f"{name}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


POLICIES = [(name, block) for name in NAMES for block in blocks(name, "yaml") if "middleware:" in block]


@pytest.mark.parametrize(("name", "block"), POLICIES)
def test_every_policy_file_in_a_guide_is_right(name: str, block: str, tmp_path: Path) -> None:
    backends = "" if "backends:" in block else 'backends: [{name: gpu-1, url: "http://127.0.0.1:11434"}]\n'
    check(load_text(backends + block, folder=tmp_path))


def test_there_are_policy_files_in_the_guides() -> None:
    assert {name for name, _ in POLICIES} == set(NAMES)


def test_the_key_file_in_the_guide_is_one() -> None:
    (text,) = (block for block in blocks("keys", "yaml") if block.startswith("#"))
    assert parse_keys(text.encode(), "keys.yaml", frozenset({"research"})).named("alice", 0.0) is not None


def test_the_authorized_keys_in_the_guide_are_some() -> None:
    (text,) = blocks("ollama-cli", "text")
    keys = parse_authorized_keys(text.encode(), "authorized_keys", policies=frozenset({"research"}))
    assert [key.caller.identity for key in keys.values()] == ["alice@laptop", "bob", "intern"]


async def test_keys_in_five_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = next(block for block in blocks("keys", "sh") if "keys new" in block).split()[2:]
    made = CliRunner().invoke(commands, command)
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert key.startswith("op_")
    settings = yaml.safe_load(POLICIES[0][1])
    async with (
        Ollama() as sim,
        running(sim.url, middleware=settings["middleware"], policies=settings["policies"], folder=tmp_path) as proxy,
    ):
        assert (await ask(proxy.address, "GET", "/api/tags")).status == 401
        assert (await ask(proxy.address, "GET", "/api/tags", headers={"Authorization": f"Bearer {key}"})).status == 200
        line = await proxy.log.request(2)
        assert (line["identity"], line["tenant"], line["policy"]) == ("alice", "physics", "research")


async def test_the_cli_with_its_own_key(tmp_path: Path, need: Need) -> None:
    need("ssh-keygen", SSH_KEYGEN is not None)
    (tmp_path / "ssh").mkdir()
    key = OllamaKey(tmp_path / "ssh", "alice@laptop")
    (tmp_path / "authorized_keys").write_text(key.line + "\n")
    chain = ["logging", {"auth": {"ollama_keys": "authorized_keys", "path_token": True}}]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy:
        stamp = int(time.time())
        body = {"model": "llama3.2"}

        def cli(method: str, path: str, prefix: str = "") -> bytes:
            headers = {"Authorization": key.authorization(method, path, stamp)}
            return request(method, f"{prefix}{path}?ts={stamp}", body if method == "POST" else None, headers)

        # what `ollama run` asks, in its order, all within one second and over one connection
        client = await Client.connect(proxy.address)
        for method, path in (
            ("HEAD", "/"),
            ("POST", "/api/show"),
            ("POST", "/api/show"),
            ("POST", "/api/generate"),
            ("POST", "/api/chat"),
        ):
            await client.send(cli(method, path))
            assert (await client.read(bodyless=method == "HEAD")).status == 200, path
        await client.send(cli("GET", "/api/ps", prefix="/k/ollama"))
        assert (await client.read()).status == 200
        client.hang_up()
        # the same, from somebody who overheard it
        stranger = await Client.connect(proxy.address)
        for path in ("/api/show", "/api/chat", "/api/chat"):
            await stranger.send(cli("POST", path))
            assert (await stranger.read()).status == 401
        stranger.hang_up()
        assert "authorization" not in str([request.headers for request in sim.requests]).lower()
        assert "ts=" not in str([request.target for request in sim.requests])


async def test_two_proxies_take_a_signature_once_between_them_and_still_do_after_a_restart(
    tmp_path: Path, need: Need
) -> None:
    need("ssh-keygen", SSH_KEYGEN is not None)
    (tmp_path / "ssh").mkdir()
    key = OllamaKey(tmp_path / "ssh", "alice@laptop")
    (tmp_path / "authorized_keys").write_text(key.line + "\n")
    stamp = int(time.time()) - 2
    with redis_server() as redis:
        async with Ollama() as sim:

            def proxied() -> AbstractAsyncContextManager[Running]:
                chain = [{"auth": {"ollama_keys": "authorized_keys"}}]
                return running(sim.url, middleware=chain, folder=tmp_path, store=redis.url)

            async def tags(proxy: Running) -> int:
                headers = {"Authorization": key.authorization("GET", "/api/tags", stamp)}
                return (await ask(proxy.address, "GET", f"/api/tags?ts={stamp}", headers=headers)).status

            async with proxied() as one, proxied() as two:
                assert sorted(await asyncio.gather(*(tags(proxy) for proxy in (one, two) * 5))) == [200] + 9 * [401]
            async with proxied() as again:
                assert await tags(again) == 401
