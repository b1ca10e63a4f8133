"""proxy/commands/demo.py: what it prints works when it is pasted."""

import asyncio
import signal
from pathlib import Path

from tests.proxy.test_cli import ROOT, line_with, start
from tests.support.process import start_process


async def pasted(lines: str, cwd: Path) -> tuple[int | None, bytes]:
    process = await start_process(
        *("bash", "-e"),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(50):
        output, _ = await process.communicate(lines.encode())
    return process.returncode, output


async def printed_by(process: asyncio.subprocess.Process) -> str:
    """Return what the demo prints before its log."""
    printed = ""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while "The log follows" not in printed:
            line = (await process.stderr.readline()).decode()
            assert line, printed
            printed += line
    return printed


async def test_what_is_printed_can_be_pasted_as_it_stands(tmp_path: Path) -> None:
    process = await start("demo", "--listen", "127.0.0.1:0", cwd=ROOT)
    printed = await printed_by(process)
    assert all(f"import {package}" in printed for package in ("ollama", "openai", "anthropic"))
    code, output = await pasted(printed, tmp_path)
    assert code == 0, output
    assert b'"done":true' in output
    for path in ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/messages"):
        line = await line_with(process.stdout, '"event":"request"')
        assert f'"route":"{path}"' in line
        assert '"outcome":"completed"' in line
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0


async def test_a_unix_socket_is_named_as_curl_wants_it(tmp_path: Path) -> None:
    process = await start("demo", "--listen", f"unix:{tmp_path}/the proxy.sock", cwd=ROOT)
    printed = await printed_by(process)
    assert f"in front of them at unix:{tmp_path}/the proxy.sock." in printed
    assert "http://unix" not in printed
    code, output = await pasted(printed, tmp_path)
    assert code == 0, output
    assert b'"done":true' in output
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0
