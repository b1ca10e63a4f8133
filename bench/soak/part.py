"""The two pipes to a process that is a part of the soak: lines of words go in, lines of JSON come out."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import orjson

from bench.targets import ROOT, stop


class PartEnded(RuntimeError):
    """A part of the soak has ended by itself."""


class Part:
    """A part, seen from the soak."""

    def __init__(self, stack: ExitStack, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.enter_context(self._process)  # which closes the pipes
        stack.callback(stop, self._process)

    def tell(self, word: str) -> None:
        """Write one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Read one line; raises PartEnded."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PartEnded("a part of the soak has ended by itself")
        return orjson.loads(line)

    def end(self) -> Any:
        """Close its input, and return what it says at its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.hear()


async def told() -> AsyncIterator[str]:
    """Yield each word that the soak tells this process, until it closes the pipe."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


def say(what: object) -> None:
    """Write one line for the soak to hear."""
    sys.stdout.buffer.write(orjson.dumps(what, option=orjson.OPT_NON_STR_KEYS) + b"\n")
    sys.stdout.flush()
