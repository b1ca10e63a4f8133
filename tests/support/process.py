"""Processes that tests start: with the signals of a fresh shell; and the proxy as an operator starts it."""

import asyncio
import itertools
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

ROOT: Final = Path(__file__).parents[2]


_ports: Final = itertools.count(os.getpid() * 61)
"""Processes of the suite that run side by side begin at different ports."""
PORTS: Final = range(10_000, 32_000)
"""Below those that the kernel gives to outgoing connections, and to whoever asks for any port."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on now, and that nobody gets who asks for any."""
    for number in itertools.islice(_ports, len(PORTS)):
        port = PORTS[number % len(PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port is taken")


DEFAULT_SIGNALS: Final = ("env", "--default-signal=HUP,INT,QUIT,TERM")
"""A command that runs another with these signals as they are by default.

What is started inherits ignored signals: SIGINT where the suite runs in the background of a script, SIGHUP under nohup.
"""


async def start_process(*command: str | os.PathLike[str], **options: Any) -> asyncio.subprocess.Process:
    """Start a process that heeds every signal; `options` are those of `asyncio.create_subprocess_exec`."""
    return await asyncio.create_subprocess_exec(*DEFAULT_SIGNALS, *command, **options)


class Process:
    """A proxy, and what its log says."""

    def __init__(self, process: asyncio.subprocess.Process, address: tuple[str, int]) -> None:
        self.process = process
        self.address = address

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        file: Path,
        settings: dict[str, Any],
        *,
        stdout: int = asyncio.subprocess.PIPE,
        files: int | None = None,
        first: str | None = None,
    ) -> AsyncIterator["Process"]:
        """Start a proxy.

        Args:
            file: where its policy file is written.
            settings: the policy file.
            stdout: where its log goes.
            files: how many it may have open, by its soft and its hard limit.
            first: statements to run before anything else, where a test is to change what no setting does.
        """
        limited = () if files is None else ("prlimit", f"--nofile={files}:{files}")
        program = ("-m", "proxy.cli") if first is None else ("-c", f"{first}\nfrom proxy.cli import main\nmain()")
        file.write_text(yaml.safe_dump(settings))  # noqa: ASYNC240  (a few lines)
        process = await start_process(
            *(*limited, sys.executable, *program, "serve", "-c", str(file)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(30):
                said = b""
                while not (found := re.search(rb"https?://([\d.]+):(\d+)", line := await process.stderr.readline())):
                    said += line
                    assert line, f"it ended: {said.decode()}"
            yield cls(process, (found[1].decode(), int(found[2])))
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def stop(self) -> list[dict[str, Any]]:
        """End it as an operator does; return the lines of its requests."""
        self.process.terminate()
        output, said = await self.process.communicate()
        assert self.process.returncode == 0, said
        events = [orjson.loads(line) for line in output.splitlines()]
        assert not [event for event in events if event["level"] == "critical" or event["event"].endswith("_failed")]
        return [event for event in events if event["event"] == "request"]
