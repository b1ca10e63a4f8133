"""proxy/reference/commands.py: what is documented exists, and the other way round; completion knows it too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.reference.commands import commands, commands_page

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "commands.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == commands_page()


def test_every_command_has_its_section_and_every_section_its_command() -> None:
    assert set(re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)) == set(commands())


def test_every_command_and_every_option_is_described() -> None:
    for name, command in commands().items():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_the_documents_name_only_commands_that_there_are() -> None:
    known = {name.partition(" ")[0] for name in commands()}
    for page in (ROOT / "README.md", *(ROOT / "docs" / "guides").glob("*.md")):
        named = set(re.findall(r"ollama-proxy ([a-z]+)\b", page.read_text("utf-8")))
        named &= {word for word in named if f"`ollama-proxy {word}" in page.read_text("utf-8")}
        assert named <= known, page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell: str) -> None:
    words = {"bash": {"COMP_WORDS": "ollama-proxy re", "COMP_CWORD": "1"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "ollama-proxy re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    found = subprocess.run(
        [str(Path(sys.executable).parent / "ollama-proxy")],
        env={**os.environ, "_OLLAMA_PROXY_COMPLETE": f"complete_{shell}", **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "reload" in found.stdout, found.stderr
    assert "serve" not in found.stdout
