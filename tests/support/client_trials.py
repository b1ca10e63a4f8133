"""Trials of the large client programs, which the suite does not install: ``scripts/clients NAME``.

A trial installs the newest version, runs the recipe of its page through every action, and keeps what it saw in
tests/live/clients/trials.json, from which the table of docs/guides/clients.md is made. With ``--record`` it also keeps
what the program sends, which the suite sends again.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from proxy.simulator import Ollama, Request
from tests.support.client_actions import ACTIONS, TOKENS, WRONG_KEY, Subject, scene
from tests.support.client_builds import BUILT, build
from tests.support.client_catalog import INSTALLED, LARGE
from tests.support.client_programs import FOLDER, Shell, recipes_of
from tests.support.client_table import PAGE, TRIALS, page_with_table
from tests.support.process import free_port

RECORDED: Final = FOLDER / "recorded"
PATIENCE: Final = 240.0
"""Seconds until a program that says nothing is given up."""
LONGEST: Final = 120
"""Characters of a text in a body that are kept: the shape counts, not the prose, which is its makers'."""
DROPPED: Final = frozenset({"host", "content-length", "connection", "accept-encoding"})
"""Header fields that belong to a connection, not to what is asked."""


def command(arguments: list[str]) -> int:
    """Do what the arguments of ``scripts/clients`` say, and return the exit status."""
    options = {word for word in arguments if word.startswith("--")}
    names = [word for word in arguments if not word.startswith("--")]
    if "--table" in options:
        return _write_table(only_compare="--check" in options)
    if not names or not {*names} <= {*LARGE, *BUILT} or not options <= {"--record"}:
        sys.stdout.write(f"scripts/clients [--record] NAME...; of {', '.join([*LARGE, *BUILT])}\n")
        return 2
    for name in names:
        asyncio.run(_trial(name, record="--record" in options))
    return _write_table(only_compare=False)


def _write_table(*, only_compare: bool) -> int:
    """Bring the page up to date, or return 1 where it is not."""
    text = page_with_table()
    if PAGE.read_text("utf-8") == text:
        return 0
    if only_compare:
        sys.stdout.write("docs/guides/clients.md is not current; run scripts/clients --table\n")
        return 1
    PAGE.write_text(text, "utf-8")
    return 0


async def _trial(name: str, *, record: bool) -> None:
    """Install a program, try it, and keep what was seen."""
    port = free_port()
    subject_in, version = await asyncio.to_thread(_installed, name, port)
    result = {"version": version, "date": datetime.now(UTC).date().isoformat()}
    if record and name in LARGE:
        await _record(name, subject_in)
    for action in ACTIONS:
        result[action] = await _seen(subject_in, port, action)
        sys.stdout.write(f"{name} {version}: {action}: {result[action]}\n")
        sys.stdout.flush()
    trials = json.loads(TRIALS.read_text("utf-8"))
    trials[name] = trials.get(name, {}) | result
    TRIALS.write_text(json.dumps(trials, indent=1, sort_keys=True) + "\n", "utf-8")


async def _seen(subject_in: Callable[[Path], Subject], port: int, action: str) -> str:
    """Try one action; return ``yes``, or what was seen instead."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        async with scene(Path(folder), port=port) as at:
            try:
                await ACTIONS[action](subject_in(home), at)
            except TimeoutError:
                return f"nothing for {PATIENCE:.0f} s"
            except AssertionError as error:
                return str(error)[:400]
    return "yes"


async def _record(name: str, subject_in: Callable[[Path], Subject]) -> None:
    """Keep what a program sends for one question, to a host that it calls without a proxy between."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        async with Ollama(tokens=TOKENS, max_tokens=TOKENS, call_tools=False) as sim:
            subject = subject_in(Path(home))
            run = await subject.runner.start(subject.recipe.at(sim.url), {**subject.env, "KEY": WRONG_KEY})
            run.patience = PATIENCE
            await run.end()
            lines = [json.dumps(as_recorded(request, home), ensure_ascii=False) for request in sim.requests]
    RECORDED.mkdir(exist_ok=True)
    (RECORDED / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def as_recorded(request: Request, home: str) -> dict[str, Any]:
    """Return a request as it is kept: the key and the folder replaced, and long texts cut short."""
    headers = [
        [name.decode(), value.decode("latin-1").replace(WRONG_KEY, "KEY")]
        for name, value in request.headers
        if name.decode().lower() not in DROPPED
    ]
    body = json.loads(request.body.decode().replace(home, "/home/alice")) if request.body else None
    return {"method": request.method, "target": request.target.decode(), "headers": headers, "body": _shortened(body)}


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return value


def _installed(name: str, port: int) -> tuple[Callable[[Path], Subject], str]:
    """Install or build a program; return what makes it a subject in a home of its own, and its version.

    What is built calls a proxy on `port`.
    """
    if name in BUILT:
        program, built = build(name, f"http://127.0.0.1:{port}"), BUILT[name]
        return lambda home: Subject(
            program, Shell(INSTALLED, folder=home), says=built.says, patience=PATIENCE
        ), built.version
    programs, (recipe,), large = _install(name), recipes_of(name), LARGE[name]

    def subject_in(home: Path) -> Subject:
        return Subject(
            recipe, Shell(programs, folder=home), False, large.says, {"HOME": str(home)}, PATIENCE, large.fails
        )

    return subject_in, _version(programs / large.command)


def _install(name: str) -> Path:
    """Install the newest version; return the folder of its commands."""
    folder, large = INSTALLED / name, LARGE[name]
    folder.mkdir(parents=True, exist_ok=True)
    if large.by == "npm":
        (folder / "package.json").write_text('{"private": true}')
        _run("npm", "--prefix", str(folder), "install", "--no-audit", "--no-fund", large.package)
        return folder / "node_modules" / ".bin"
    _run(sys.executable, "-m", "venv", str(folder))
    installer = INSTALLED / "installer" / "bin" / "python"
    python = folder / "bin" / "python"
    _run(str(installer), "-m", "uv", "pip", "install", "--quiet", "--python", str(python), large.package)
    return folder / "bin"


def _version(program: Path) -> str:
    said = subprocess.run((program, "--version"), capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=900, env=dict(os.environ))
