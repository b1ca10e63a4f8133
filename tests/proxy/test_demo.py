"""proxy/demo.py: what it prints works when it is pasted."""

import asyncio
import re
import signal
from pathlib import Path

from tests.proxy.test_cli import ROOT, line_with, start


async def shell(command: str) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_shell(
        command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return process.returncode, output


async def test_every_printed_command_works(tmp_path: Path) -> None:
    process = await start("demo", "--listen", "127.0.0.1:0", cwd=ROOT)
    printed = ""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while "The log follows" not in printed:
            line = (await process.stderr.readline()).decode()
            assert line, printed
            printed += line
    curl = re.search(r"^  curl .*?'$", printed, re.S | re.M)
    scripts = re.findall(r"^  (\S+ - <<'END'\n.*?)^  END$", printed, re.S | re.M)
    assert curl
    assert len(scripts) == 3
    code, output = await shell(curl[0])
    assert code == 0
    assert b'"done":true' in output
    for script in scripts:
        code, output = await shell(script.replace("\n  ", "\n") + "END\n")
        assert code == 0, output
        assert len(output) > 20
    assert '"outcome":"completed"' in await line_with(process.stdout, '"event":"request"')
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0
