"""proxy/commands/logs.py."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from proxy.commands.logs import _lines, _replaced, pretty
from proxy.kernel.errors import Outcome
from tests.support.cli import run
from tests.support.process import start_process

REQUEST: dict[str, Any] = {
    "time": "2026-01-31T12:00:00.123Z",
    "level": "info",
    "event": "request",
    "request_id": "r1",
    "identity": "ann",
    "client_address": "192.0.2.1",
    "method": "POST",
    "route": "/api/chat",
    "path": "/api/chat",
    "model": "llama3.2:latest",
    "backend": "b1",
    "reason": "loaded",
    "outcome": "completed",
    "status": 200,
    "queue_ms": 1500.0,
    "ttft_ms": 250.0,
    "total_ms": 61000.0,
    "tokens_in": 5,
    "tokens_out": 7,
    "tokens_per_second": 3.5,
}
OTHER = {
    **REQUEST,
    "time": "2026-01-31T13:00:00.000Z",
    "request_id": "r2",
    "identity": "bob",
    "model": "qwen3:latest",
    "backend": "b2",
    "outcome": "refused",
}
EVENT = {"time": "2026-01-31T12:30:00.000Z", "level": "warning", "event": "backend_down", "backend": "b1"}
TEXT = "".join(json.dumps(line) + "\n" for line in (REQUEST, EVENT, OTHER))
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        (
            {},
            (
                "12:00:00.123 completed 200 ann  POST /api/chat  llama3.2:latest  b1 (loaded)  "
                "queued 1.5 s  first 250 ms  took 1 m 1 s  5+7 tokens, 3.5/s  r1"
            ),
        ),
        (
            {
                "identity": None,
                "route": None,
                "path": "/x\u001b[31m\u202e",
                "model": None,
                "backend": None,
                "reason": None,
                "queue_ms": 0.0,
                "ttft_ms": None,
                "tokens_out": None,
                "outcome": "refused",
                "status": None,
                "error": "no such\nroute",
                "error_code": "unknown_route",
                "error_plugin": "access",
            },
            (
                "12:00:00.123 refused - 192.0.2.1  POST /x\\x1b[31m\\u202e  took 1 m 1 s  "
                "unknown_route by access: no such\\nroute  r1"
            ),
        ),
    ],
)
def test_a_request_reads_in_one_line(changed: dict[str, Any], shown: str) -> None:
    assert pretty({**REQUEST, **changed}).plain == shown


def test_other_events_are_written_as_the_console_format_has_them() -> None:
    assert pretty(EVENT).plain.split() == ["12:30:00.000", "warning", "backend_down", "backend=b1"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], ["r1", "-", "r2"]),
        (["--identity", "ann"], ["r1"]),
        (["--backend", "b1"], ["r1", "-"]),
        (["--outcome", "refused"], ["r2"]),
        (["--model", "llama3.2"], ["r1"]),
        (["--model", "LLAMA3.2:latest"], ["r1"]),
        (["--model", "llama3"], []),
        (["--model", "*:latest"], ["r1", "r2"]),
        (["--since", "2026-01-31T12:30:00Z"], ["-", "r2"]),
        (["--since", "2026-01-31T14:00:00+01:00"], ["r2"]),
        (["--since", "1m"], []),
        (["--since", "2026-01-31T12:30:00Z", "--backend", "b1"], ["-"]),
    ],
)
def test_filters(tmp_path: Path, filters: list[str], found: list[str]) -> None:
    file = tmp_path / "log"
    file.write_text(TEXT)
    for said in (run("logs", str(file), "--json", *filters), run("logs", "--json", *filters, typed=TEXT)):
        lines = [json.loads(line) for line in said.out.splitlines()]
        assert [line.get("request_id", "-") for line in lines] == found
    assert len(run("logs", str(file), *filters).out.splitlines()) == len(found)


def test_an_outcome_that_there_is_not_is_a_mistake() -> None:
    error = run("logs", "--outcome", "refuse", typed=TEXT, code=2).error
    assert all(outcome in error for outcome in get_args(Outcome))


def test_what_is_no_json_passes_unless_something_is_looked_for() -> None:
    typed = "Traceback:\x1b[2J\n[1]\n" + TEXT
    assert run("logs", typed=typed).out.splitlines()[:2] == ["Traceback:\\x1b[2J", "[1]"]
    assert len(run("logs", "--backend", "b2", typed=typed).out.splitlines()) == 1


def test_mistakes() -> None:
    for never in ("soon", "-1s", "999999999999999d", "9999999d"):  # longer ago than there are dates
        assert "expected 10m, 2h" in run("logs", "--since", never, code=2, typed="").error
    assert "/nonesuch: No such file or directory" in run("logs", "/nonesuch", code=1).error


def test_half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("one\ntw")
    with open(file) as stream, open(file, "a") as writer:
        assert list(_lines(stream)) == ["one"]
        assert list(_lines(stream)) == []
        writer.write("o\n")
        writer.flush()
        assert list(_lines(stream)) == ["two"]


def test_a_file_is_replaced_when_it_is_another_or_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("one\n")
    with open(file) as stream:
        list(_lines(stream))
        assert not _replaced(file, stream)
        os.truncate(file, 0)
        assert _replaced(file, stream)
        file.rename(tmp_path / "log.1")
        assert not _replaced(file, stream)
        file.write_text("two, which is longer\n")
        assert _replaced(file, stream)


def append(file: Path, line: dict[str, Any]) -> None:
    with open(file, "a") as stream:
        stream.write(json.dumps(line) + "\n")


async def test_following_goes_on_in_the_file_that_comes_next(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text(json.dumps(REQUEST) + "\n")
    process = await start_process(
        *(sys.executable, "-m", "proxy.cli", "logs", str(file), "--follow", "--json"),
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert json.loads(await process.stdout.readline()) == REQUEST
            append(file, EVENT)
            assert json.loads(await process.stdout.readline()) == EVENT
            file.rename(tmp_path / "log.1")
            file.write_text(json.dumps(OTHER) + "\n")
            assert json.loads(await process.stdout.readline()) == OTHER
            process.send_signal(signal.SIGINT)
            _, error = await process.communicate()
        assert (process.returncode, error) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
