"""A hostile backend, and hostile files: nothing that they say is obeyed by the terminal of whoever runs the proxy."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.support.backend import Peer, backend, eventually, reply
from tests.support.cli import Said, run, run_beside
from tests.support.process import ROOT, start_process
from tests.support.proxy import running
from tests.support.wire import ask

EVIL = "m\x1b]0;owned\x07\x1b[2J\x9b31m\x9d0;x\x9c\u202egpj\u2028\x85\x08\x7f[bold][red]\\[/] :smile:"
SHOWN = ("[bold][red]", ":smile:", "owned")
"""What of it is text, and stands there as such."""
CHAT: dict[str, Any] = {"model": EVIL, "messages": [{"role": "user", "content": "hi"}]}


async def hostile(peer: Peer) -> None:
    """Put `EVIL` wherever a backend has a say."""
    model = {"name": EVIL, "model": EVIL, "size": 1, "size_vram": 1, "digest": EVIL, "details": {"family": EVIL}}
    while True:
        asked = (await peer.request()).split(b" ")[1]
        if asked in (b"/api/tags", b"/api/ps"):
            await peer.send(reply(orjson.dumps({"models": [model]})))
        elif asked == b"/api/version":
            await peer.send(reply(orjson.dumps({"version": EVIL}), b"Date: " + EVIL.encode()[:1]))
        else:
            said = orjson.dumps({"error": EVIL})
            await peer.send(reply(said, b"X-Evil: [bold]\xc2\x9b31m", status=b"500 [bold]\xc2\x9b31m"))


def harmless(*texts: str | bytes) -> None:
    for text in texts:
        shown = text.decode() if isinstance(text, bytes) else text
        odd = {sign for sign in shown if not sign.isprintable() and sign != "\n"}
        assert not odd, shown


def checked(said: Said, *, shows: bool = True) -> None:
    harmless(said.out, said.error)
    if shows:
        assert all(part in said.out + said.error for part in SHOWN), said


async def test_what_a_running_proxy_knows_is_shown_and_not_obeyed() -> None:
    async with backend(hostile) as evil, running(evil.url, watched=True, ops={"listen": "127.0.0.1:0"}) as proxy:
        assert proxy.app.ops_server is not None
        url = f"http://{proxy.app.ops_server.addresses[0]}"
        host = proxy.app.pool.backends[0]
        await eventually(lambda: host.version is not None)
        for _ in range(2):
            await ask(proxy.address, "POST", "/api/chat", CHAT)
        for command in (["status"], ["status", "--json"], ["top", "--count", "1"]):
            checked(await run_beside(*command, "--url", url), shows=False)
        checked(await run_beside("unload", "b1", EVIL, "--url", url, code=1), shows=False)
        checked(await run_beside("explain", "POST", "/api/chat", "--model", EVIL, "--url", url), shows=False)
        harmless(*proxy.log.raw)


async def test_a_status_that_is_all_lies_is_shown_and_not_obeyed() -> None:
    async with backend(hostile) as good, running(good.url) as proxy:
        await ask(proxy.address, "POST", "/api/chat", {**CHAT, "model": "m"})
        document = orjson.loads((await run_beside("status", "--json", "--url", proxy.url)).out)
    lies = with_texts(document)
    lies["requests"] = [{**lies["recent"][0], "state": EVIL, "chunks": 1}]

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(orjson.dumps(lies)))

    async with backend(script) as evil:
        for command in (["status"], ["top", "--count", "1"]):
            checked(await run_beside(*command, "--url", evil.url))
        said = await run_beside("status", "--json", "--url", evil.url)
        checked(said)
        assert orjson.loads(said.out) == lies, "a program reads what was said"


def with_texts(value: Any) -> Any:
    """Return a document with `EVIL` for every text in it."""
    if isinstance(value, dict):
        return {key: with_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_texts(inner) for inner in value]
    return EVIL if isinstance(value, str) else value


@pytest.mark.parametrize("what", ["answers", "is no proxy", "refuses"])
async def test_somebody_who_is_no_proxy_commands_no_terminal(what: str) -> None:
    async def impostor(peer: Peer) -> None:
        while True:
            await peer.request()
            evil = {"error": EVIL, "done": EVIL, "generation": EVIL, "problems": [], "restart": [EVIL]}
            if what == "answers":
                await peer.send(reply(orjson.dumps(evil)))
            elif what == "refuses":
                await peer.send(reply(orjson.dumps(evil), status=b"403 no"))
            else:
                await peer.send(reply(EVIL.encode(), status=b"404 no"))

    async with backend(impostor) as evil:
        code = 0 if what == "answers" else 1
        for command in (["cancel", "1"], ["drain", "b1"], ["undrain", "b1"], ["unload", "b1", "m"], ["reload"]):
            checked(await run_beside(*command, "--url", evil.url, code=code))
        if what != "answers":
            for command in (["status"], ["top", "--count", "1"], ["explain", "GET", "/"]):
                checked(await run_beside(*command, "--url", evil.url, code=1))


async def test_doctor(tmp_path: Path) -> None:
    async with backend(hostile) as evil:
        file = tmp_path / "p.yaml"
        file.write_text(f"backends: [{{name: b1, url: '{evil.url}'}}]\n")
        checked(await run_beside("doctor", "-c", str(file)))


@pytest.mark.parametrize("format_", ["json", "console", "ecs", "otel"])
async def test_serve(tmp_path: Path, format_: str) -> None:
    file = tmp_path / "p.yaml"
    async with backend(hostile) as evil:
        settings = {
            "listen": "127.0.0.1:0",
            "log": {"format": format_, "level": "debug"},
            "backends": [{"name": "b1", "url": evil.url}],
            "middleware": ["logging", {"access": {"models": ["other"]}}],
        }
        file.write_text(yaml.safe_dump(settings))
        process = await start_process(
            *(sys.executable, "-m", "proxy.cli", "serve", "-c", str(file)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            said = b""
            async with asyncio.timeout(30):
                while b"  page " not in said:
                    said += await process.stderr.readline()
                host, _, port = said.split(b"http://")[1].split(b"\n")[0].decode().partition(":")
                answer = await ask((host, int(port)), "POST", "/api/chat", CHAT)
                assert answer.status in (400, 403, 404)
                process.terminate()
                out, rest = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
    assert all(part.encode() in said for part in SHOWN)
    harmless(said, rest, out)


LINES = [
    {"event": "request", "time": EVIL, "outcome": EVIL, "status": EVIL, "reason": EVIL, "identity": EVIL, "model": EVIL}
    | dict.fromkeys(("method", "route", "backend", "error", "error_code", "error_plugin", "request_id"), EVIL)
    | {"tokens_out": EVIL, "tokens_in": EVIL, "tokens_per_second": EVIL},
    {"event": EVIL, "time": EVIL, "level": EVIL, EVIL: EVIL, "exception": f"{EVIL}\n{EVIL}"},
]


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_the_lines_of_a_file_or_of_a_pipe(tmp_path: Path, how: list[str]) -> None:
    file = tmp_path / "log"
    lines = [orjson.dumps(line).decode() for line in LINES]
    lines[0] = lines[0].replace("owned", "owned\x9b31m\u202e\x7f")
    file.write_text("\n".join([*lines, f"no JSON {EVIL}".replace("\u2028", ""), ""]))
    checked(run("logs", str(file), *how))
    checked(run("logs", *how, typed=file.read_text()))
    if how:
        assert orjson.loads(run("logs", str(file), "--json").out.splitlines()[1]) == LINES[1]


def test_a_policy_file_and_its_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"backends": [{"name": EVIL, "url": EVIL}], EVIL: EVIL, "policies": {EVIL: {}}}))
    for command in (["check"], ["doctor"], ["explain", "GET", "/"], ["serve"]):
        checked(run(*command, "-c", str(file), code=1))
    other = tmp_path / "other.yaml"
    other.write_text("backends: [{name: b1, url: 'http://127.0.0.1:1'}]\n")
    checked(run("check", "-c", str(other), "--diff", str(file), code=1))
    keys.write_text(yaml.safe_dump({"keys": [{"name": EVIL, "id": EVIL, "hash": EVIL, "tenant": EVIL}]}))
    checked(run("keys", "list", "--file", str(keys), code=1), shows=False)
    keys.write_text(EVIL)
    checked(run("keys", "list", "--file", str(keys), code=1), shows=False)
    checked(run("keys", "revoke", EVIL, "--file", str(keys), code=1), shows=False)
