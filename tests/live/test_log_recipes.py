"""The recipes for the log: rsyslog and lnav run here, the others are held against the schema."""

import asyncio
import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from middleware.logging import fields
from proxy.kernel.log_field_names import ECS, OTEL
from proxy.simulator import Ollama
from proxy.telemetry.log_events import COMMON, FIELDS
from tests.conftest import Need
from tests.support.process import start_process
from tests.support.proxy import running
from tests.support.wire import ask

RECIPES = Path(__file__).parents[2] / "deploy/logs"
FOLDER = "/var/log/ollama-proxy"
KINDS = {field.name: str(field.kind) for field in fields.FIELDS} | {
    name: str(kind) for name, (kind, _) in {**COMMON, **FIELDS}.items()
}
CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "tell me"}]}
NASTY = 'x"; DROP\\,\x1b[31m\u2028é'


async def write_log(path: Path) -> list[dict[str, Any]]:
    """Let a proxy write a log: an answer, a refusal, captured words, something nasty, and what is none of its lines."""
    chain = ["logging", {"auth": {"anonymous": "audited"}}, "capture", "retry"]
    policies = {"audited": {"capture": {"prompt": "2KiB", "answer": "2KiB"}}}
    async with Ollama() as one, running(one.url, middleware=chain, policies=policies) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT, headers={"user-agent": "test/1"})
        await ask(proxy.address, "GET", "/api/nothing")
        await ask(proxy.address, "POST", "/api/chat", {**CHAT, "model": NASTY})
        await proxy.log.wait_for(lambda lines: len(lines.requests) == 3)
        save(path, [*proxy.log.raw, b"Fatal Python error: none of ours"])
        return proxy.log.events


def save(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"\n".join(lines) + b"\n")


@asynccontextmanager
async def rsyslog(folder: Path) -> AsyncIterator[None]:
    (folder / "state").mkdir()
    recipe = (RECIPES / "rsyslog.conf").read_text().replace(FOLDER, str(folder))
    config = folder / "rsyslog.conf"
    config.write_text(f'global(workDirectory="{folder}/state")\n{recipe}')
    command = ["rsyslogd", "-n", "-f", str(config), "-i", str(folder / "pid")]
    process = await start_process(*command, stderr=asyncio.subprocess.PIPE)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
        assert b"error" not in said.lower(), said.decode()


async def content(path: Path, lines: int) -> list[str]:
    """Wait until a file has so many lines; another process writes it."""
    async with asyncio.timeout(20):
        while len(found := complete(path)) < lines:  # noqa: ASYNC110 (a file tells nobody)
            await asyncio.sleep(0.02)
    return found


def complete(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


async def test_rsyslog_splits_the_log(need: Need, tmp_path: Path) -> None:
    need("rsyslogd", shutil.which("rsyslogd") is not None)
    events = await write_log(tmp_path / "proxy.log")
    requests = [event for event in events if event["event"] == "request"]
    words = [event for event in events if event["event"] == "content"]
    bad = [event for event in events if event["level"] in ("warning", "error")]
    async with rsyslog(tmp_path):
        usage = await content(tmp_path / "usage.csv", len(requests))
        problems = await content(tmp_path / "problems.log", len(bad) + 1)
        captured = await content(tmp_path / "content.log", len(words))
    assert len(words) == 2
    assert [orjson.loads(line) for line in captured] == words
    assert [orjson.loads(line) for line in problems[:-1]] == bad
    assert problems[-1] == "Fatal Python error: none of ours"
    names = ("time", "tenant", "identity", "route", "model", "backend", "status", "outcome", "tokens_in", "tokens_out",
             "total_ms")  # fmt: skip
    rows = [dict(zip(names, row, strict=True)) for row in csv.reader(usage)]
    for row, event in zip(rows, requests, strict=True):
        assert {name: value or None for name, value in row.items()} == {
            name: None if event[name] is None else str(event[name]) for name in names
        }
    assert (tmp_path / "content.log").stat().st_mode & 0o777 == 0o600
    assert not any("\x1b" in line for line in usage + problems)


async def test_lnav_knows_every_field(need: Need, tmp_path: Path) -> None:
    need("lnav", shutil.which("lnav") is not None)
    events = await write_log(tmp_path / "proxy.log")
    good = tmp_path / "good.log"
    good.write_bytes(b"\n".join((tmp_path / "proxy.log").read_bytes().split(b"\n")[:-2]) + b"\n")
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "TERM": "dumb"}

    def lnav(*arguments: str) -> str:
        done = subprocess.run(["lnav", *arguments], capture_output=True, env=environment, timeout=50, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert b"error" not in done.stderr, done.stderr.decode()
        return done.stdout.decode()

    lnav("-i", str(RECIPES / "lnav.json"))
    columns = [name for name in KINDS if name not in ("time", "level")]
    query = f";SELECT log_level, {', '.join(columns)} FROM ollama_proxy_log"
    rows = list(csv.DictReader(lnav("-n", "-c", query, "-c", ":write-csv-to -", str(good)).splitlines()))
    assert len(rows) == len(events)
    chat, event = next(
        (row, event) for row, event in zip(rows, events, strict=True) if event.get("route") == "/api/chat"
    )
    for name in ("event", "model", "status", "outcome", "tokens_out", "request_id"):
        assert chat[name] == str(event[name])


def test_the_lnav_format_has_every_field_with_its_type() -> None:
    values = json.loads((RECIPES / "lnav.json").read_text())["ollama_proxy_log"]["value"]
    kinds = {"string": "string", "integer": "integer", "number": "float", "boolean": "boolean", "array": "json"}
    expected = {name: kinds[kind] for name, kind in KINDS.items() if name not in ("time", "level")}
    assert {name: about["kind"] for name, about in values.items()} == expected


def test_the_elasticsearch_template_has_every_field_with_its_type() -> None:
    template = json.loads((RECIPES / "elasticsearch-template.json").read_text())["template"]
    properties = {name: about["type"] for name, about in template["mappings"]["properties"].items()}
    assert set(properties) == {ECS.name(name) for name in KINDS} | set(ECS.constants)
    texts = {"date", "keyword", "match_only_text"}
    fitting = {"string": texts, "array": texts, "integer": {"long"}, "number": {"float", "long"}}
    fitting["boolean"] = {"boolean"}
    for name, kind in KINDS.items():
        assert properties[ECS.name(name)] in fitting[kind], name


def named_in(file: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (RECIPES / file).read_text()))


@pytest.mark.parametrize(
    ("file", "pattern", "made_there"),
    [
        ("rsyslog.conf", r"\$!(\w+)", set()),
        ("vector.yaml", r"(?<=[ (!])\.([a-z_]+)|\{\{ (\w+) \}\}", {"message", "timestamp"}),
        ("fluent-bit.yaml", r"=\$(\w+)|exclude: (\w+)|time_key: (\w+)", set()),
        ("loki.alloy", r'"\w+"\s+= "(\w+)",', set()),
        ("loki.alloy", r'"(\w+)" = ""', set()),
    ],
)
def test_recipes_name_fields_that_there_are(file: str, pattern: str, made_there: set[str]) -> None:
    found = {name for match in re.findall(pattern, (RECIPES / file).read_text())
             for name in (match if isinstance(match, tuple) else (match,)) if name}  # fmt: skip
    assert found
    assert found <= set(KINDS) | made_there


def test_recipes_in_other_dialects_do_too() -> None:
    assert named_in("filebeat.yml", r"equals\.([\w.]+):") <= {ECS.name(name) for name in KINDS}
    otel = {OTEL.name(name) for name in KINDS} | set(OTEL.constants)
    assert named_in("otel-collector.yaml", r"attributes(?:\.|\[\")([\w.]+)") <= otel


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.y*ml")), ids=lambda path: path.name)
def test_recipes_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_every_recipe_is_in_the_guide() -> None:
    guide = (RECIPES.parents[1] / "docs/guides/logs.md").read_text()
    assert all(f"deploy/logs/{path.name}" in guide for path in RECIPES.iterdir())
