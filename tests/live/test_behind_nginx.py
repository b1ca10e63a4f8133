"""What the page about nginx says of single lines, and how a plain `proxy_pass` does without them."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from middleware.queue import Queue
from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.fronts import NAME, Front, block, in_front, installed
from tests.support.options import pool_options
from tests.support.proxy import Running, running

CHAT: Final[dict[str, Any]] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
LONG: Final = {**CHAT, "prompt": "hi", "input": "hi", "max_tokens": 12}
STREAMS: Final = ("/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/pull")
SETTINGS: Final[dict[str, Any]] = {"trusted_proxies": ["127.0.0.1"], "server": {"hosts": [NAME, "127.0.0.1"]}}
PLAIN: Final = f"""
server {{
    listen 443 ssl;
    ssl_certificate     /etc/ssl/{NAME}.pem;
    ssl_certificate_key /etc/ssl/{NAME}.key;
    access_log /var/log/nginx/access.log;
    location / {{
        proxy_pass http://127.0.0.1:11435;
    }}
}}
"""
"""All of nginx's defaults, HTTP/1.0 towards the proxy among them."""


@pytest.fixture(autouse=True)
def _nginx(need: Need) -> None:
    need("nginx", installed("nginx"))


@asynccontextmanager
async def plain(sim: Ollama, folder: Path) -> AsyncIterator[tuple[Front, Running]]:
    async with running(sim.url, **SETTINGS) as proxy, in_front("nginx", proxy.address, folder, text=PLAIN) as front:
        await proxy.log.request()
        proxy.log.raw.clear()
        yield front, proxy


@pytest.mark.parametrize("path", STREAMS)
async def test_a_plain_proxy_pass_streams(path: str, tmp_path: Path) -> None:
    async with Ollama() as sim, plain(sim, tmp_path) as (front, proxy):
        fault = sim.fault("stall", route=path, after=2)
        client = await front.connect()
        await client.send(front.request("POST", path, LONG))
        assert (await client.read_head()).status == 200
        got = await client.read_chunk()
        while got.count(b"\n") < 2:
            got += await client.read_chunk()
        assert fault.hits == 1
        fault.release()
        while chunk := await client.read_chunk():
            got += chunk
        line = await proxy.log.request()
        assert (line["outcome"], line["bytes_out"]) == ("completed", len(got))
        await client.close()


@pytest.mark.parametrize("how", ["reset", "close", "truncate"])
async def test_a_stream_cut_behind_a_plain_proxy_pass_is_no_success(how: Any, tmp_path: Path) -> None:
    async with Ollama() as sim, plain(sim, tmp_path) as (front, _):
        sim.fault(how, route="/api/chat", after=4)
        answer = await front.ask("POST", "/api/chat", CHAT)
        assert (answer.status, answer.clean) == (200, False)
        *tokens, last = answer.body.splitlines()
        assert len(tokens) == 4
        assert b'"code":"upstream_truncated"' in last


async def test_without_the_line_about_it_anybody_chooses_his_address(tmp_path: Path) -> None:
    async with Ollama() as sim, plain(sim, tmp_path) as (front, proxy):
        await front.ask("GET", "/api/tags", headers={"X-Forwarded-For": "203.0.113.9"})
        assert (await proxy.log.request())["client_address"] == "203.0.113.9"


async def test_a_silence_longer_than_its_default_passes(tmp_path: Path) -> None:
    """A minute is a tenth of a second here: 60 s become 100 ms, and the two hours of the page 12 s."""
    default, page = ({"proxy_read_timeout 2h": f"proxy_read_timeout {time}"} for time in ("100ms", "12s"))
    async with Ollama(num_parallel=2) as sim, running(sim.url, **SETTINGS) as proxy:
        async with (
            in_front("nginx", proxy.address, tmp_path, default) as hasty,
            in_front("nginx", proxy.address, tmp_path, page) as patient,
        ):
            silence = sim.fault("stall", route="/api/chat", times=None)
            answer = asyncio.create_task(patient.ask("POST", "/api/chat", CHAT))
            await sim.wait_for(lambda: silence.hits == 1)
            assert (await hasty.ask("POST", "/api/chat", CHAT)).status == 504
            silence.release()
            assert (await answer).clean


def test_its_times_fit_those_of_the_proxy() -> None:
    text = block("nginx", "nginx")
    hours = {int(hours) for hours in re.findall(r"^\s+proxy_(?:read|send)_timeout (\d+)h;", text, re.M)}
    assert len(hours) == 1
    silent = max(asdict(pool_options().timeouts).values())
    wait = inspect.signature(Queue).parameters["wait"].default
    assert hours.pop() * 3600 > silent + wait


async def test_keys_in_urls_are_not_in_its_log(tmp_path: Path) -> None:
    key, entry = new_key("alice", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml", "path_token": True}}]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path, **SETTINGS) as proxy:
        async with in_front("nginx", proxy.address, tmp_path) as front:
            for path in (f"/k/{key}/api/tags", f"/K/{key}/api/tags", f"/k%2F{key}/api/tags", "/api/version"):
                await front.ask("GET", path, headers={"Authorization": f"Bearer {key}"})
        written = (front.folder / "ollama-proxy.log").read_text()  # nginx has ended, so all is in it
        assert "GET /api/version" in written
        assert key not in written


async def test_no_backend_makes_it_send_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the operator")
    inside = f"    location /inside/ {{ internal; alias {tmp_path}/; }}\n    location / {{"
    async with Ollama() as sim, running(sim.url, **SETTINGS) as proxy:
        async with in_front("nginx", proxy.address, tmp_path, {"    location / {": inside}) as front:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Accel-Redirect: /inside/secret\r\n"
            sim.script(head + b"Content-Length: 2\r\n\r\n{}", route="/api/show")
            answer = await front.ask("POST", "/api/show", {"model": "llama3.2"})
            assert (answer.status, answer.body) == (200, b"{}")


@pytest.mark.parametrize(("length", "key", "status"), [(70_000_000, True, 413), (3_000_000, False, 401)])
async def test_what_is_refused_before_its_body_came_can_be_read(
    length: int, key: bool, status: int, tmp_path: Path
) -> None:
    alice, entry = new_key("alice", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml"}}]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path, **SETTINGS) as proxy:
        async with in_front("nginx", proxy.address, tmp_path) as front:
            client = await front.connect()
            fields = {"Content-Length": str(length), "Authorization": f"Bearer {alice if key else 'op_wrong'}"}
            await client.send(front.request("POST", "/api/chat", None, fields) + b"x" * 1000)
            answer = await client.read()
            assert (answer.status, b'"code":"' in answer.body) == (status, True)
            await client.close()
