"""What strangers try, through the whole proxy: no backend hears of it, and no log line repeats a key.

The tables of forged tokens and of odd bodies are in middleware/auth/test_jwt.py and proxy/kernel/test_body_json.py;
other names for a model in test_access.py.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urljoin

import pytest
import zstandard

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.raw import Raw, Response
from tests.support.tokens import claims, unsigned

SHORT = "canary/7"
"""A key of some provider, as short as nothing in a log looks for, and with a slash in it."""


@dataclass
class House:
    """A proxy that lets in who has `key`, and the backend behind it."""

    proxy: Running
    sim: Ollama
    key: str
    other: str

    async def ask(self, *headers: str, target: str = "/api/show", body: bytes = b'{"model":"llama3.2"}') -> Response:
        """Make a request byte by byte; `headers` are whole lines."""
        lines = [f"POST {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
        async with await Raw.open(self.proxy.server.addresses[0]) as client:
            await client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            return await client.response()


def keys_in(folder: Path) -> tuple[str, str]:
    made = [new_key(name, now=time.time()) for name in ("alice", "bob")]
    for _, entry in made:
        add_key(folder / "keys.yaml", entry)
    return made[0][0], made[1][0]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    key, other = keys_in(tmp_path)
    auth = {"keys": "keys.yaml", "path_token": True, "jwt": {"issuer": "https://login.example.com", "audience": "x"}}
    async with Ollama() as sim, running(sim.url, middleware=["logging", {"auth": auth}], folder=tmp_path) as proxy:
        yield House(proxy, sim, key, other)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, []),
        (400, ["Authorization: Bearer {key}", "Authorization: Bearer {key}"]),
        (400, ["Authorization: Bearer {key}", "authorization: Bearer wrong"]),
        (400, ["x-api-key: {key}", "X-API-Key: {other}"]),
        (400, ["x-api-key: {key}", "Authorization: Bearer {other}"]),
        (401, ["Authorization: Bearer {key}, Bearer {other}"]),
        (401, ["Authorization: {key}"]),
        (401, ["Authorization: Bearer\t{key}"]),
        (401, ["Authorization: Basic {key}"]),
        (401, ["Authorization: Basic !!!!"]),
        (401, ["Authorization: Digest username=alice"]),
        (401, ["x_api_key: {key}"]),
        (401, ["Authorization_: Bearer {key}"]),
        (401, ["Proxy-Authorization: Bearer {key}"]),
        (401, ["Cookie: key={key}; x-api-key={key}"]),
        (401, ["X-Forwarded-User: alice"]),
        (401, ["Authorization: Bearer " + unsigned({"alg": "none"}, claims("https://login.example.com"))]),
    ],
)
async def test_what_opens_nothing(house: House, status: int, headers: list[str]) -> None:
    answer = await house.ask(*(line.format(key=house.key, other=house.other) for line in headers))
    assert answer.status == status
    assert not house.sim.requests
    assert (status == 401) == (answer.header(b"www-authenticate") is not None)


async def test_a_key_in_the_query_opens_nothing_and_is_in_no_line(house: House) -> None:
    for name in ("key", "api_key", "access_token", "token"):
        answer = await house.ask(target=f"/api/show?{name}={house.key}")
        assert answer.status == 401
    line = await house.proxy.log.request(4)
    assert (line["route"], line["path"]) == ("/api/show", None)
    assert not house.sim.requests
    assert all(house.key.encode() not in raw for raw in house.proxy.log.raw)


PATHS = [
    "/k/{key}/api/show",
    "/k/{key}",
    "/k/{key}/",
    "/k/{key}/api/show/",
    "/k/{key}/nowhere",
    "/k/{key};x/api/show",
    "/k/{key}?key={key}",
    "/k/{key}//api/show",
    "/k//{key}/api/show",
    "/k/{key}/k/{key}/api/show",
    "/k/wrong/k/{key}/api/show",
    "/k/{key}/k/wrong/api/show",
    "/k/{key}/-/backends/b1/api/nowhere",
    "/-/backends/b1/k/{key}/api/show",
    "//k/{key}/api/show",
    "/./k/{key}/api/show",
    "/api/../k/{key}/api/show",
    "/K/{key}/api/show",
    "/%6B/{key}/api/show",
    "/k%2F{key}/api/show",
    "/k%252F{key}/api/show",
    "/k/{key}%2Fapi%2Fshow",
    "/k/{key}%00/api/show",
    "/k/{key}%0A/api/show",
    "/k/{key}\\api\\show",
    "/ollama/k/{key}/api/show",
    "/api/show/k/{key}",
    "http://proxy/k/{key}/api/show",
]


@pytest.mark.parametrize("path_token", [True, False])
async def test_a_key_in_a_path_is_in_no_line_wherever_it_stands(tmp_path: Path, path_token: bool) -> None:
    key, _ = keys_in(tmp_path)
    auth = {"auth": {"keys": "keys.yaml", "path_token": path_token}}
    chain = [{"use": "logging", "name": "outside"}, auth, {"use": "logging", "name": "inside"}]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy:
        house = House(proxy, sim, key, key)
        for path in PATHS:
            for secret in (key, quote(SHORT, safe=""), SHORT):
                answer = await house.ask("Connection: close", target=path.format(key=secret))
                assert answer.status in (200, 301, 307, 400, 401, 404, 405), path
        await proxy.log.request(10)
    assert proxy.log.raw
    for raw in proxy.log.raw:
        assert key.encode() not in raw
        assert b"canary" not in raw
    assert all(key.encode() not in request.target for request in sim.requests)


async def test_a_redirect_leads_to_the_same_key_and_names_none(house: House) -> None:
    target = f"/k/{house.key}/api/show/"
    moved = await house.ask(target=target)
    location = (moved.header(b"location") or b"").decode()
    assert moved.status == 307
    assert house.key not in str(moved.headers)
    assert (await house.ask(target=urljoin(target, location))).status == 200
    assert (await house.proxy.log.request(2))["identity"] == "alice"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"llama3.2","model":"llama3.2"}',
        b'{"Model":"llama3.2"}',
        b'{"model":"llama3.2"} {}',
        b'{"model":"llama3.2","n":NaN}',
        b'\xef\xbb\xbf{"model":"llama3.2"}',
        '{"model":"llama3.2"}'.encode("utf-16"),
        b'{"model":"llama3.2","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"llama3.2","a":' + b'{"a":' * 300 + b"1" + b"}" * 301,
        b'{"model":"llama3.2","n":' + b"1" * 1_000_000 + b"}",
    ],
    ids=["twice", "case", "behind", "NaN", "BOM", "UTF-16", "deep", "deeper than one writes", "digits"],
)
@pytest.mark.parametrize(
    "plugin",
    [
        {"access": {"models": ["llama3.2"]}},
        {"parameters": {"num_predict": {"max": 100}}},
        {"rate_limit": {"tokens": "100000/day"}},
    ],
    ids=lambda plugin: next(iter(plugin)),
)
async def test_a_body_that_can_be_misread_reaches_no_backend(plugin: dict[str, object], body: bytes) -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", plugin]) as proxy:
        house = House(proxy, sim, "", "")
        for target in ("/api/chat", "/v1/chat/completions"):
            answer = await house.ask(target=target, body=body)
            assert answer.status == 400
        assert not sim.requests


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_reaches_no_backend(declared: bool) -> None:
    async with Ollama() as sim, running(sim.url, server={"body": {"each": "64KiB"}}) as proxy:
        async with await Raw.open(proxy.server.addresses[0]) as client:
            head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
            if declared:
                await client.send(head + b"Content-Length: 65537\r\n\r\n")
            else:
                chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
                await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * chunk)
            assert (await client.response()).status == 413
        assert not sim.requests
        await eventually(lambda: proxy.app.bodies.held == 0)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd, zstd", "ZSTD", "unknown"])
async def test_an_encoding_that_ollama_does_not_undo_reaches_no_backend(encoding: str) -> None:
    async with Ollama() as sim, running(sim.url, middleware=[{"access": {"models": ["llama3.2"]}}]) as proxy:
        answer = await House(proxy, sim, "", "").ask(f"Content-Encoding: {encoding}", target="/v1/chat/completions")
        assert answer.status == 415
        assert not sim.requests


async def test_no_form_is_read_through_an_encoding() -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nllama3.2\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n'
    )
    lines = ("Content-Encoding: gzip", "Content-Type: multipart/form-data; boundary=b")
    async with Ollama() as sim, running(sim.url, middleware=[{"access": {"models": ["llama3.2"]}}]) as proxy:
        answer = await House(proxy, sim, "", "").ask(*lines, target="/v1/audio/transcriptions", body=form)
        assert answer.status == 415
        assert not sim.requests


async def test_a_zstd_bomb_is_stopped_at_the_bound_and_holds_no_memory() -> None:
    bomb = zstandard.compress(b'{"model":"llama3.2","x":"' + b"A" * 200_000_000 + b'"}')
    chain = [{"access": {"models": ["llama3.2"]}}]
    async with Ollama() as sim, running(sim.url, middleware=chain, server={"body": {"each": "1MiB"}}) as proxy:
        answer = await House(proxy, sim, "", "").ask("Content-Encoding: zstd", target="/v1/messages", body=bomb)
        assert answer.status == 413
        assert not sim.requests
        await eventually(lambda: proxy.app.bodies.held == 0)
