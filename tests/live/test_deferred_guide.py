"""The guide about deferred requests says what is so, and its lines work."""

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import orjson
import pytest

from middleware.defer.plugin import Defer
from proxy.app import check
from proxy.chain.plugin_lookup import find
from proxy.deferred import run, runner
from proxy.kernel.passing_errors import NO_ROOM
from proxy.kernel.units import format_duration, format_size
from proxy.simulator import Ollama
from tests.support.policy import load_text
from tests.support.process import start_process
from tests.support.proxy import Running, running

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "deferred.md").read_text()
FLAT = " ".join(GUIDE.split())
POLICIES = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.S)
ASK, USE = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.M | re.S)


def default(option: str) -> Any:
    return find("defer").options.model_fields[f"option_{option}"].default


@pytest.mark.parametrize("text", POLICIES)
def test_every_policy_file_in_it_is_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    check(load_text(f'backends: [{{name: gpu-1, url: "http://127.0.0.1:11434"}}]\n{text}', folder=tmp_path))


def test_the_numbers_in_it_are_those_of_the_code() -> None:
    for option, shown in [
        ("max_body", format_size(default("max_body"))),
        ("per_identity", str(default("per_identity"))),
        ("total", str(default("total"))),
        ("max_answer", format_size(default("max_answer"))),
        ("keep", format_duration(default("keep"))),
        ("attempts", str(default("attempts"))),
    ]:
        shown = re.sub(r"(\d)([KM]iB)", r"\1 \2", shown).replace("1d", "24h")
        assert f"| `{option}` ({shown}) |" in GUIDE
    assert f"`priority`, {default('priority')} unless" in FLAT
    assert (run.SLOT_WAIT, runner.PENDING) == (10.0, 8)
    assert f"by another proxy after {runner.LOST_AFTER:.0f} seconds" in FLAT
    assert default("when") == {"asked"}
    assert Defer.stands_between == (("auth", "access"), ("rate_limit", "queue"))


def test_every_error_that_is_no_room_is_in_it() -> None:
    said = FLAT.partition("no slot is free: ")[2].partition(". A limit")[0]
    assert set(re.findall(r"`(\w+)`", said)) == NO_ROOM


async def curl(proxy: Running, line: str, **variables: str) -> str:
    """Run a line of the guide against a proxy; return what it prints."""
    for name, value in variables.items():
        line = line.replace(f"${name}", value)
    line = line.replace("http://127.0.0.1:11435", proxy.url)
    program, *arguments = shlex.split(line)
    assert program == "curl"
    process = await start_process("curl", "-sS", "--max-time", "20", *arguments, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def test_its_lines() -> None:
    chain: list[object] = ["logging", "defer", "queue", "retry"]
    async with Ollama(tokens=20) as ollama, running(ollama.url, middleware=chain) as proxy:
        head, _, body = (await curl(proxy, ASK)).partition("\r\n\r\n")
        told = orjson.loads(body)
        assert head.startswith("HTTP/1.1 202 ")
        assert f"location: /-/requests/{told['id']}" in head.lower()
        assert "preference-applied: respond-async" in head.lower()
        shown = orjson.loads(GUIDE.partition("```http\n")[2].partition("\n\n")[2].partition("```")[0])
        assert told.keys() - {"note"} == shown.keys()
        state, answer, part, listed, ended = USE.splitlines()
        assert orjson.loads(await curl(proxy, state, ID=told["id"]))["state"] in ("queued", "running", "completed")
        whole = await curl(proxy, answer, ID=told["id"])
        assert '"done":true' in whole
        assert (await curl(proxy, part, ID=told["id"])).encode() == whole.encode()[100:]
        assert [one["id"] for one in orjson.loads(await curl(proxy, listed))["requests"]] == [told["id"]]
        assert await curl(proxy, ended, ID=told["id"]) == ""
        assert orjson.loads(await curl(proxy, listed))["requests"] == []
