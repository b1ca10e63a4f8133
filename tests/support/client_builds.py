"""Client programs in Go, Rust and Java, which are built before they are run."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.support.client_catalog import INSTALLED
from tests.support.client_programs import FOLDER, Recipe, recipes_of

SECONDS: Final = 1800
"""A build may take."""


@dataclass(frozen=True)
class Built:
    """One program.

    Attributes:
        title: its name in the table.
        page: the page of its recipe.
        number: its place on that page.
        language: the folder under tests/live/clients with the versions of its packages.
        versions: the file there that says the version of its package, and a pattern that finds it.
        key: how it is given a key.
        says: its own words, by action, where it does not show the proxy's.
    """

    title: str
    page: str
    number: int
    language: str
    versions: tuple[str, str]
    key: str
    says: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version of its package."""
        found = re.search(self.versions[1], (FOLDER / self.language / self.versions[0]).read_text("utf-8"))
        assert found is not None, self
        return found[1]


STATUS: Final = {
    "wrong_key": "401 Unauthorized",
    "refused_model": "403 Forbidden",
    "rate_limited": "429 Too Many Requests",
}
"""The words of who shows the name of a status only."""
CRATE: Final = r'name = "{}"\nversion = "([^"]+)'
BUILT: Final[Mapping[str, Built]] = {
    "go": Built(
        "ollama (Go)",
        "go",
        1,
        "go",
        ("go.mod", r"ollama/ollama v(\S+)"),
        "a `RoundTripper`",
        {"wrong_key": "401 Unauthorized"},
    ),
    "go-2": Built("openai (Go)", "go", 2, "go", ("go.mod", r"openai/openai-go v(\S+)"), "`WithAPIKey`"),
    "go-3": Built("LangChain (Go)", "go", 3, "go", ("go.mod", r"tmc/langchaingo v(\S+)"), "a `RoundTripper`"),
    "rust": Built(
        "ollama-rs",
        "rust",
        1,
        "rust",
        ("Cargo.lock", CRATE.format("ollama-rs")),
        "`set_headers`",
        {"cut": "the answer was cut"},
    ),
    "rust-2": Built(
        "async-openai",
        "rust",
        2,
        "rust",
        ("Cargo.lock", CRATE.format("async-openai")),
        "`with_api_key`",
        STATUS,
    ),
    "langchain4j": Built(
        "LangChain4j",
        "langchain4j",
        1,
        "java",
        ("pom.xml", r"langchain4j-ollama</artifactId>\s*<version>([^<]+)"),
        "`customHeaders`",
        {"cut": "closed"},
    ),
}
"""All of them, by page, and the number of any program but the first."""
SOURCES: Final[Mapping[str, str]] = {"go": "main.go", "rust": "src/main.rs", "java": "src/main/java/Main.java"}
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "go": ("go", "build", "-o", "client", "main.go"),
    "rust": ("cargo", "build", "--locked", "--quiet"),
    "java": ("mvn", "-q", "-B", "compile", "dependency:copy-dependencies"),
}
RUNS: Final[Mapping[str, str]] = {
    "go": "{folder}/client",
    "rust": "{folder}/target/debug/clients",
    "java": "java -cp '{folder}/target/classes:{folder}/target/dependency/*' Main",
}


def build(name: str, url: str) -> Recipe:
    """Build a program that calls a proxy at `url`, and return the command that runs it."""
    built = BUILT[name]
    (recipe,) = (found for found in recipes_of(built.page) if found.number == built.number)
    folder = INSTALLED / built.language
    shutil.copytree(FOLDER / built.language, folder, dirs_exist_ok=True)
    source = folder / SOURCES[built.language]
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(recipe.at(url), "utf-8")
    command = COMMANDS[built.language]
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, timeout=SECONDS, env=dict(os.environ))
    return Recipe(recipe.page, recipe.number, "sh", "exec " + RUNS[built.language].format(folder=folder) + "\n")
