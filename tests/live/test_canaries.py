"""Secrets that go through the whole chain at debug level appear in no line, metric, trace, error, status or page."""

import asyncio
import io
import logging
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import yaml
from joserfc.jwk import OctKey

from config.load import Loaded
from config.problems import Invalid
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.app import check
from proxy.commands.announce import _announce
from proxy.reload import Reloader
from proxy.simulator import Ollama
from proxy.testing import LogLines
from tests.conftest import Need
from tests.support.browser import CHROMEDRIVER, CHROMIUM, browser
from tests.support.cli import run_beside
from tests.support.collector import Collector, Span, collecting
from tests.support.policy import load_text
from tests.support.proxy import Running, running
from tests.support.tokens import signed
from tests.support.wire import Client, ask, request

CANARIES = {
    "header": "canary-header-5f1c",
    "cookie": "canary-cookie-8a2e",
    "query": "canary-query-19bd",
    "user info": "canary-userinfo-77aa",
    "prompt": "canary-prompt-c3d4",
    "unread body": "canary-unread-e5f6",
    "broken body": "canary-broken-0a1b",
    "password in a path": "canary-path-2c3d-which-is-as-long-as-a-key",
    "unknown key": "op_" + "canaryKeyId0" + "_" + "canary" * 6,
    "fragment of a head": "canary-head-4e5f",
    "environment": "canary-environment-6a7b",
    "policy file": "canary-policy-file-8c9d",
    "redis": "canary-redis-0e1f",
    "jwt secret": "canary-jwt-secret-" + "x" * 32,
    "jwt claim": "canary-claim-3a4b",
    "collector": "canary-collector-5c6d",
    "baggage": "canary-baggage-7e8f",
    # what looks like a credential, in places where the caller's own words are logged
    "user agent": "sk-canary" + "Agent9f0a" * 4,
    "user info in the user agent": "canary-ua-user:canary-ua-password",
    "name of a model": "op_canaryModel1_" + "canary8b" * 5,
    "name of a model in a path": "hf_canaryModel2" + "canary9c" * 5,
    "key in the body": "sk-canaryMember" + "canary0d" * 5,
    "name of a header": "sk-canaryfield" + "canary1e" * 5,
    "host": "sk-canaryhost" + "canary2f" * 5,
    "origin": "sk-canaryorigin" + "canary3a" * 5,
    "method": "CANARYMETHOD" + "4B" * 20,
    "user of basic": "op_canaryBasic1_" + "canary5c" * 5,
    "deadline": "sk-canaryDeadline" + "canary6d" * 5,
}
SAID_BACK = {"name of a model", "name of a model in a path", "origin"}
"""An answer may tell its caller which model there is not, as Ollama does, and a page which origin may not call."""
CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": CANARIES["prompt"]}]}
SECRETS = {"UPSTREAM_TOKEN": CANARIES["environment"], "REDIS_PASSWORD": CANARIES["redis"],
           "JWT_SECRET": CANARIES["jwt secret"], "OTLP_TOKEN": CANARIES["collector"]}  # fmt: skip


class Place:
    """A proxy with everything on, and what it has said so far."""

    def __init__(self, proxy: Running, collector: Collector, host: Ollama, key: str) -> None:
        self.proxy, self.collector, self.host, self.key = proxy, collector, host, key
        self.answers: list[bytes] = []
        self.tokens: list[str] = []

    @property
    def secrets(self) -> dict[str, str]:
        """All of them by name."""
        return CANARIES | {f"token {number}": token for number, token in enumerate(self.tokens)}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        """Make a request and keep what the proxy itself said; returns the status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = await ask(self.proxy.address, method, path, body, named)
        said = str(reply.headers).encode()
        # What the model says is the caller's, and so is what a caller may see of the proxy itself.
        self.answers.append(said if reply.status == 200 and path.startswith(("/api/", "/v1/")) else said + reply.body)
        return reply.status

    async def send(self, raw: bytes) -> None:
        """Send what is no request."""
        client = await Client.connect(self.proxy.address)
        try:
            await client.send(raw)
            self.answers.append(await client.reader.read(65536))
        finally:
            await client.close()

    @asynccontextmanager
    async def overheard(self) -> AsyncIterator[None]:
        """Keep all live events that there are within the block."""
        client = await Client.connect(self.proxy.address)
        await client.send(request("GET", "/-/events", headers={"Authorization": f"Bearer {self.key}"}))
        assert (await client.read_head()).status == 200

        async def keep() -> None:
            while chunk := await client.read_chunk():
                self.answers.append(chunk)

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await client.close()

    async def everything(self) -> dict[str, bytes]:
        """All that was said, by where."""
        metrics, _ = await self.proxy.app.metrics.exposition()
        return {
            "log": b"\n".join(self.proxy.log.raw),
            "metrics": metrics,
            "traces": b"\n".join(self.collector.raw),
            "answers": b"\n".join(self.answers),
            "prints": repr(self.proxy.app.pool).encode() + repr(self.proxy.app.traces).encode(),
        }


@asynccontextmanager
async def placed(folder: Path) -> AsyncIterator[Place]:
    key, entry = new_key("alice", now=time.time(), tenant="physics", policy="audited")
    add_key(folder / "keys.yaml", entry)
    async with collecting() as collector, Ollama(chat_embeds=True) as host:
        chain = [
            "logging",
            "metrics",
            {"tracing": {"endpoint": collector.url, "headers": {"x-key": "${OTLP_TOKEN}"}}},
            {"cors": {"origins": ["https://chat.example.com"]}},
            {
                "auth": {
                    "keys": "keys.yaml",
                    "path_token": True,
                    "jwt": {"issuer": "https://login.example.com", "audience": "ollama", "secret": "${JWT_SECRET}"},
                }
            },
            {"access": {"routes": ["read", "inference", "manage", "ops"]}},
            {"parameters": {"num_ctx": {"max": 8192}}},
            "capture",
            {"rate_limit": {"requests": "1000/minute", "by": "identity", "on_store_failure": "local"}},
            {"queue": {"wait": "5s"}},
            {"retry": {"attempts": 2}},
        ]
        backends: list[dict[str, Any]] = [
            {
                "name": "b1",
                "url": host.url,
                "slots": 4,
                "headers": {
                    "Authorization": "Bearer ${UPSTREAM_TOKEN}",
                    "X-Plain": CANARIES["policy file"],
                },
            },
            {"name": "b2", "url": "http://127.0.0.1:1"},
        ]
        async with running(
            *backends,
            middleware=chain,
            folder=folder,
            watched=True,
            policies={"audited": {"capture": {"prompt": "2KiB", "answer": "2KiB"}}},
            store="redis://limits:${REDIS_PASSWORD}@127.0.0.1:1/0",
            log={"level": "debug"},
        ) as proxy:
            yield Place(proxy, collector, host, key)


@pytest.fixture
def secrets_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("proxy.telemetry.traces.EVERY", 0.02)


async def use_it(place: Place) -> list[int]:
    """Make every kind of request that carries a secret; returns the statuses."""
    bearer = f"Bearer {place.key}"
    strange = {
        "x_secret": CANARIES["header"],
        "cookie": f"session={CANARIES['cookie']}",
        "baggage": f"user={CANARIES['baggage']}",
        "tracestate": "acme=1",
        "referer": f"https://x.example/?token={CANARIES['query']}",
        "x_api_key": "ollama",
    }
    claims = {"iss": "https://login.example.com", "aud": "ollama", "sub": "bob", "exp": int(time.time()) + 60,
              "email": CANARIES["jwt claim"]}  # fmt: skip
    token = signed(OctKey.import_key(CANARIES["jwt secret"]), claims, "HS256", kid=...)
    place.tokens += [place.key, token, token[:-4] + "AAAA"]
    query = f"?key={CANARIES['query']}"
    supposed = {"method": "POST", "path": f"/api/chat{query}", "as": token, "body": CHAT}
    first = await misplaced(place, bearer)
    claimed = {"method": "POST", "path": "/api/chat", "claims": claims, "model": "llama3.2"}
    statuses = [
        await place.ask(
            "POST", f"/api/generate{query}", {"model": "llama3.2", "prompt": "hi"}, authorization=bearer, **strange
        ),
        await place.ask("POST", "/v1/chat/completions", {**CHAT, "stream": True}, authorization=f"Bearer {token}"),
        await place.ask("POST", f"/k/{place.key}/api/embed", {"model": "llama3.2", "input": CANARIES["prompt"]}),
        await place.ask("POST", "/api/chat", {**CHAT, "model": "nobody-has-this"}, authorization=f"Bearer {token}"),
        # refused by auth, before the body is read
        await place.ask("POST", "/api/chat", {"model": CANARIES["unread body"]}, **strange),
        await place.ask("POST", "/api/chat", CHAT, authorization=f"Bearer {CANARIES['unknown key']}"),
        await place.ask("POST", f"/k/{CANARIES['unknown key']}/api/chat", CHAT),
        await place.ask("POST", "/api/chat", CHAT, authorization=f"Bearer {token[:-4]}AAAA"),
        await place.ask("POST", "/api/chat", CHAT, authorization=f"Basic {CANARIES['header']}"),
        # refused for what the body is
        await place.ask("POST", "/api/chat", b'{"model":"' + CANARIES["broken body"].encode(), authorization=bearer),
        await place.ask("POST", "/api/chat", {"model": 7, "x": CANARIES["broken body"]}, authorization=bearer),
        # no such route
        await place.ask("GET", f"/{CANARIES['password in a path']}/x{query}", authorization=bearer),
        await place.ask("GET", f"/k/{quote(place.key)}/nothing/{CANARIES['password in a path']}"),
        # what the proxy tells of itself
        *[
            await place.ask("GET", path, authorization=bearer)
            for path in (
                *("/-/status", "/-/metrics", "/-/config", "/-/healthz", "/-/readyz", "/-/", "/-/docs"),
                *("/-/openapi.json", "/api/version"),
            )
        ],
        *[await place.ask("POST", "/-/explain", body, authorization=bearer) for body in (supposed, claimed)],
        await place.ask("POST", f"/-/cancel/{CANARIES['password in a path']}", authorization=bearer),
    ]
    place.host.fault("status", route="/api/chat", status=500)
    statuses.append(await place.ask("POST", "/api/chat", CHAT, authorization=f"Bearer {token}"))
    place.host.fault("reset", route="/api/chat", times=None)
    statuses.append(await place.ask("POST", "/api/chat", CHAT, authorization=f"Bearer {token}"))
    place.host.clear()
    head = f"Host: {CANARIES['user info']}:{CANARIES['user info']}@x\r\nX-A: {CANARIES['fragment of a head']}\r\n"
    await place.send(f"GET /api/tags HTTP/1.1\r\n{head}\r\n".encode())
    await place.send(f"GET http://{CANARIES['user info']}@h/ HTTP/1.1\r\n{head}\r\n".encode())
    await place.send(f"GET /{CANARIES['query']}\x01 HTTP/1.1\r\n{head}\r\n".encode())
    await place.send(f"POST /api/chat HTTP/1.1\r\nContent-Length: {CANARIES['fragment of a head']}\r\n\r\n".encode())
    # A client that leaves in the middle.
    stall = place.host.fault("stall", route="/api/generate", after=1)
    client = await Client.connect(place.proxy.address)
    body = {"model": "llama3.2", "prompt": CANARIES["prompt"]}
    await client.send(
        request("POST", "/api/generate", body, {"authorization": f"Bearer {token}", "x-s": CANARIES["header"]})
    )
    await client.read_head()
    client.hang_up()
    await place.proxy.log.wait_for(left_early)  # before the rest of the answer comes, which would be a whole one
    stall.release()
    return statuses + first


def left_early(lines: LogLines) -> bool:
    """Return whether a client left before its answer was complete."""
    return any(line["outcome"] == "client_gone" for line in lines.requests)


async def misplaced(place: Place, bearer: str) -> list[int]:
    """Make requests with secrets where none belong: their places are logged, or repeated in an error."""
    agent = f"tool/1.0 {CANARIES['user agent']} (+https://{CANARIES['user info in the user agent']}@example.com)"
    model, member = CANARIES["name of a model"], CANARIES["key in the body"]
    basic = b64encode(f"{CANARIES['user of basic']}:x".encode()).decode()
    statuses = [
        await place.ask("POST", "/api/chat", CHAT, authorization=bearer, user_agent=agent),
        await place.ask("POST", "/api/chat", {**CHAT, "model": model}, authorization=bearer, user_agent=agent),
        await place.ask("POST", "/v1/chat/completions", {**CHAT, "model": model}, authorization=bearer),
        await place.ask("POST", "/api/show", {"model": model}, authorization=bearer),
        await place.ask("GET", f"/v1/models/{CANARIES['name of a model in a path']}", authorization=bearer),
        await place.ask("POST", "/api/pull", {"model": f"nowhere.example/{model}/x"}, authorization=bearer),
        await place.ask("POST", "/api/chat", f'{{"{member}":1,"{member}":2}}'.encode(), authorization=bearer),
        await place.ask("POST", "/api/chat", {**CHAT, member: 1, "options": {member: 2}}, authorization=bearer),
        await place.ask("POST", "/-/explain", {member: 1}, authorization=bearer),
        await place.ask("GET", "/api/tags", authorization=bearer, **{CANARIES["name of a header"]: "1"}),
        await place.ask(
            "POST", "/api/chat", CHAT, authorization=bearer, origin=f"https://{CANARIES['origin']}.example"
        ),
        await place.ask("POST", "/api/chat", CHAT, authorization=f"Basic {basic}"),
        await place.ask("POST", "/api/chat", CHAT, authorization=bearer, x_request_timeout=CANARIES["deadline"]),
    ]
    auth = f"Authorization: {bearer}\r\n"
    await place.send(f"GET /api/tags HTTP/1.1\r\nHost: {CANARIES['host']}\r\n{auth}\r\n".encode())
    await place.send(f"{CANARIES['method']} /api/tags HTTP/1.1\r\nHost: x\r\n{auth}\r\n".encode())
    return statuses


def left(span: Span) -> bool:
    return span.attributes.get("ollama_proxy.outcome") == "client_gone"


def reload_badly(place: Place, folder: Path) -> Reloader:
    """Load files with mistakes, all of them in values that hold a secret; return what knows of the last."""
    good = {"name": "b1", "url": "http://127.0.0.1:1"}
    secret = CANARIES["policy file"]
    jwt = {"issuer": "https://login.example.com", "audience": "ollama", "secret": secret}
    tracing = {"endpoint": f"http://u:{CANARIES['collector']}@c/", "headers": {"x": CANARIES["collector"]}}
    files: list[dict[str, Any]] = [
        {"store": f"postgres://u:{CANARIES['redis']}@h/0", "backends": [good]},
        {"store": f"redis://:{CANARIES['redis']}/x@h/0", "backends": [good]},
        {"backends": [{**good, "url": f"http://u:{CANARIES['user info']}@h/"}]},
        {"backends": [{**good, "headers": {"Authorization": f"a\n{secret}"}}]},
        {"backends": [{**good, "headers": {"X": [secret]}}]},
        {"backends": [{**good, "url": "${UPSTREAM_TOKEN}"}]},
        {"backends": [good], "middleware": [{"auth": {"jwt": jwt}}]},
        {"backends": [good], "middleware": [{"tracing": tracing}]},
    ]
    for file in files:
        loaded = load_text(yaml.safe_dump(file), folder=folder)
        reloader = Reloader(place.proxy.app, partial(_same, loaded), None)
        assert reloader.reload().problems, file
    return reloader


def _same(loaded: Loaded) -> Loaded:
    return loaded


@pytest.mark.usefixtures("secrets_in_the_environment")
async def test_no_secret_is_said_anywhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with placed(tmp_path) as place:
        logging.getLogger("httpx").debug("request to %s", "nowhere")
        async with place.overheard():
            statuses = await use_it(place)
            reload_badly(place, tmp_path)
        await place.collector.wait_for(lambda collector: any(left(span) for span in collector.spans))
        said = await place.everything()
    said["prints"] += "".join(capfd.readouterr()).encode()
    assert statuses[:3] == [200, 200, 200]
    assert {401, 400, 404} <= set(statuses)
    events = {orjson.loads(line)["event"] for line in said["log"].split(b"\n")}
    assert all(b"event: " + event in said["answers"] for event in (b"status", b"started", b"answered", b"finished"))
    assert {"request", "request_refused", "config_refused", "store_lost", "content", "retry"} <= events
    assert b'"level":"debug"' in said["log"]
    assert CANARIES["prompt"].encode() in said["log"]  # where it belongs; so the search below would find it elsewhere
    for name, secret in place.secrets.items():
        for where, text in said.items():
            if (name, where) == ("prompt", "log"):
                # The words of who is audited are in `content`, which is what it is for, and nowhere else.
                text = b"\n".join(line for line in text.split(b"\n") if b'"event":"content"' not in line)
            if name in SAID_BACK and where == "answers":
                continue
            assert secret.encode() not in text, f"{name} is in {where}"


@pytest.mark.usefixtures("secrets_in_the_environment")
async def test_no_secret_is_on_the_page(tmp_path: Path, need: Need) -> None:
    need("chromium with chromium-driver", bool(CHROMIUM and CHROMEDRIVER))
    async with placed(tmp_path) as place, browser() as page:
        await page.open(place.proxy.url + "/-/")
        await page.until("document.querySelector('#login').open")
        await page.type("#key", place.key)
        await page.press("\ue007")
        await page.until("document.querySelector('#connection').dataset.state === 'live'")
        await use_it(place)
        place.proxy.app.reloader = reload_badly(place, tmp_path)
        await page.until("document.querySelector('#recent').textContent.includes('client gone')")
        await page.until("!document.querySelector('#problems').hidden")
        shown = await page.run("return document.documentElement.outerHTML + location.href + document.title")
        shown += "".join(await page.complaints())
    assert "nobody-has-this" in shown
    for name, secret in place.secrets.items():
        assert secret not in shown, f"{name} is on the page"


@pytest.mark.usefixtures("secrets_in_the_environment")
async def test_no_command_says_one(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        await use_it(place)
        url = place.proxy.url
        file = tmp_path / "proxy.yaml"
        file.write_text(yaml.safe_dump(place.proxy.app.plan.loaded.root.data(), sort_keys=False))
        said = [
            await run_beside(*command, code=code, key=place.key)
            for code, *command in (
                (0, "status", "--url", url),
                (0, "status", "--json", "--url", url),
                (0, "top", "--count", "1", "--url", url),
                (0, "check", "-c", str(file)),
                (0, "check", "-c", str(file), "--diff", "running", "--url", url),
                (1, "doctor", "-c", str(file)),
                (0, "explain", "--as", place.key, "POST", "/api/chat", "--model", "llama3.2", "--url", url),
            )
        ]
        out = io.StringIO()
        await _announce(place.proxy.app, place.proxy.server.addresses, out)
    shown = out.getvalue() + "".join(one.out + one.error for one in said)
    assert "llama3.2:latest" in shown
    for name, secret in place.secrets.items():
        assert secret not in shown, f"{name} is said"


@pytest.mark.usefixtures("secrets_in_the_environment")
def test_a_file_that_does_not_load_says_nothing_either(tmp_path: Path) -> None:
    text = "backends: [{name: b1, url: '${UPSTREAM_TOKEN}'}]\nmiddleware: [{auth: {jwt: {secret: '${JWT_SECRET}'}}}]\n"
    with pytest.raises(Invalid) as invalid:
        check(load_text(text, folder=tmp_path))
    shown = "\n".join(map(str, invalid.value.problems))
    assert not any(secret in shown for secret in SECRETS.values())
