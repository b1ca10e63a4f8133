"""Client programs, run as their users run them: the recipes of docs/guides/clients, as they stand there.

`Interpreter` runs those in Python and JavaScript, one after another in one process, which lives on when a program is
stopped; `shell` runs those that are a command.
"""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.process import start_process

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ROOT / "docs" / "guides" / "clients"
FOLDER: Final = ROOT / "tests" / "live" / "clients"
NODE: Final = shutil.which("node")
PROXY: Final = "http://127.0.0.1:11435"
"""Where a recipe says that the proxy is."""


@dataclass(frozen=True)
class Recipe:
    """One program of a page.

    Attributes:
        page: the page's name, without its ending.
        number: its place among the programs of the page, from 1.
        language: as its code block says.
        code: the program, as the page has it.
    """

    page: str
    number: int
    language: str
    code: str

    @property
    def id(self) -> str:
        """The page, and the number of any program but the first."""
        return self.page if self.number == 1 else f"{self.page}-{self.number}"

    def at(self, url: str) -> str:
        """Return the program for another proxy."""
        return self.code.replace(PROXY, url)


def recipes_of(page: str) -> list[Recipe]:
    """Return the programs of a page in their order: its code blocks in a language that is run."""
    text = (PAGES / f"{page}.md").read_text("utf-8")
    found = re.findall(r"^```(python|js|sh|go|rust|java)\n(.*?)^```$", text, re.M | re.S)
    return [Recipe(page, number, language, code) for number, (language, code) in enumerate(found, 1)]


@dataclass
class Seen:
    """What a user saw of one run.

    Attributes:
        text: what the program printed.
        error: the end of its traceback, or what a command wrote to stderr before it failed; None for a good end.
    """

    text: str = ""
    error: str | None = None

    @property
    def all(self) -> str:
        """Both."""
        return self.text + (self.error or "")


class Run:
    """One run of a program, while it goes on.

    Attributes:
        patience: seconds until a program that says nothing is given up.
        seen: what there was so far.
        ended: whether it is over.
    """

    def __init__(self, events: AsyncIterator[dict[str, Any]]) -> None:
        self._events = events
        self.patience = 100.0
        self.seen = Seen()
        self.ended = False

    async def first_text(self) -> str:
        """Wait for the next text that the program prints; raises AssertionError if it ends without."""
        before = self.seen.text
        await self._next()
        assert not self.ended, f"it ended before it printed anything: {self.seen.error}"
        return self.seen.text[len(before) :]

    async def end(self) -> Seen:
        """Wait for the program's end, and return what was seen of it."""
        while not self.ended:
            await self._next()
        return self.seen

    async def _next(self) -> None:
        async with asyncio.timeout(self.patience):
            event = await anext(self._events)
        if "text" in event:
            self.seen.text += event["text"]
        else:
            self.seen.error, self.ended = event["end"], True


class Interpreter:
    """A process that runs programs of one language, see tests/live/clients/python/run.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def started(cls, *command: str | Path) -> AsyncIterator["Interpreter"]:
        """Start it; it ends with the block."""
        process = await start_process(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=surroundings(),
            limit=2**22,
        )
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.returncode is None

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def start(self, code: str, env: Mapping[str, str], *, stop_after: int | None = None) -> Run:
        """Start a program; with `stop_after`, it is interrupted when it has printed so many pieces."""
        assert self._process.stdin is not None
        job = {"code": code, "env": dict(env), "stop_after": stop_after}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        await self._process.stdin.drain()
        return Run(self._events())

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            yield json.loads(line)
        yield {"end": "the interpreter died"}


class Shell:
    """Runs commands, each in a process group of its own."""

    def __init__(self, programs: Path, *, folder: Path | None = None) -> None:
        """`programs` comes first in the PATH; `folder` is where the commands run."""
        self._path = os.pathsep.join([str(programs), os.environ["PATH"]])
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    alive = True

    def interrupt(self) -> None:
        """Press Ctrl-C in the command that was started last."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)

    async def start(self, code: str, env: Mapping[str, str], *, stop_after: int | None = None) -> Run:
        """Start a command; with `stop_after`, Ctrl-C is pressed when it has printed so many pieces."""
        process = await start_process(
            "bash",
            "-c",
            code,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=surroundings() | {"PATH": self._path} | dict(env),
            start_new_session=True,
            cwd=self._folder,
        )
        self._process = process
        return Run(self._events(process, stop_after))

    async def _events(
        self, process: asyncio.subprocess.Process, stop_after: int | None
    ) -> AsyncIterator[dict[str, Any]]:
        assert process.stdout is not None
        assert process.stderr is not None
        saying = asyncio.ensure_future(process.stderr.read())
        pieces = 0
        try:
            while data := await process.stdout.read(2**16):
                yield {"text": data.decode("utf-8", "replace")}
                pieces += 1
                if pieces == stop_after:
                    os.killpg(process.pid, signal.SIGINT)
            status = await process.wait()
            said = (await saying).decode("utf-8", "replace").strip()
            yield {"end": said or f"exit status {status}" if status else None}
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            saying.cancel()


def surroundings() -> dict[str, str]:
    """Return the environment without what would tell a client of another host, key or proxy, or have it call home."""
    foreign = re.compile(r"(OLLAMA|OPENAI|ANTHROPIC|CLAUDE|CODEX|LITELLM|LANGCHAIN|LANGSMITH)_|(HTTPS?|ALL|NO)_PROXY$")
    kept = {name: value for name, value in os.environ.items() if not foreign.match(name.upper())}
    return kept | {
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "LANGSMITH_TRACING": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DO_NOT_TRACK": "1",
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
    }
