"""The commands, run as a shell would, beside a proxy in the test's own loop."""

import asyncio
from dataclasses import dataclass

from typer.testing import CliRunner

from proxy.cli import main

ENVIRONMENT = {"COLUMNS": "300", "LINES": "60", "OLLAMA_PROXY_KEY": None, "OLLAMA_PROXY_URL": None}


@dataclass(frozen=True)
class Said:
    """What a command wrote."""

    out: str
    error: str


def run(*arguments: str, code: int = 0, typed: str | None = None, key: str | None = None) -> Said:
    """Run a command that ends with `code`, with `typed` on its standard input and `key` in its environment."""
    result = CliRunner().invoke(main, arguments, input=typed, env={**ENVIRONMENT, "OLLAMA_PROXY_KEY": key})
    assert result.exit_code == code, (result.output, result.exception)
    return Said(result.stdout, result.stderr)


async def run_beside(*arguments: str, code: int = 0, key: str | None = None) -> Said:
    """Run a command in a thread, while the loop goes on."""
    return await asyncio.to_thread(run, *arguments, code=code, key=key)
