"""The client programs that were run: their versions, how each is given a key, and what is particular to it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

from tests.support.client_programs import FOLDER, ROOT

Group = Literal["requirements", "semantic-kernel", "js", "system"]
"""Where a program comes from: a lock file of Python or of npm, or the system's packages."""
INSTALLED: Final = ROOT / ".clients"
"""Where ``scripts/clients`` installs; each lock file of Python has an environment of its name there."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """One program of a page, which the suite runs.

    Attributes:
        title: its name in the table.
        page: the page of its recipe.
        number: its place on that page.
        group: where it comes from.
        packages: what has to be installed, the one whose version counts first; a command, for the system's.
        key: how it is given a key.
        streams: whether the recipe prints an answer as it comes.
        says: its own words for an error, by action, where it does not show the proxy's.
        note: what a user should know, for the table.
    """

    title: str
    page: str
    number: int = 1
    group: Group = "requirements"
    packages: tuple[str, ...]
    key: str
    streams: bool = True
    says: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def id(self) -> str:
        """The page, and the number of any program but the first."""
        return self.page if self.number == 1 else f"{self.page}-{self.number}"

    @property
    def version(self) -> str:
        """The version in the lock file, of each package; "" for the system's."""
        versions = [f"{versions_of(self.group)[name]}" for name in self.packages if self.group != "system"]
        return ", ".join(versions)


@cache
def versions_of(group: Group) -> Mapping[str, str]:
    """Return the versions of a lock file, by package."""
    if group == "js":
        packages = json.loads((FOLDER / "js" / "package-lock.json").read_text("utf-8"))["packages"]
        return {name.removeprefix("node_modules/"): entry["version"] for name, entry in packages.items() if name}
    text = (FOLDER / "python" / f"{group}.lock").read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


HEADERS: Final = "`headers`"
NO_WORDS: Final = {"wrong_key": "Unauthorized", "refused_model": "Forbidden", "rate_limited": "Too Many Requests"}

CLIENTS: Final = (
    Client(
        title="ollama (Python)",
        page="ollama-python",
        packages=("ollama",),
        key="`headers`, or `OLLAMA_API_KEY`",
        note="does not retry",
    ),
    Client(title="openai (Python)", page="openai-python", packages=("openai",), key="`api_key`"),
    Client(title="anthropic (Python)", page="anthropic-python", packages=("anthropic",), key="`auth_token`"),
    Client(
        title="LangChain (Python)",
        page="langchain-python",
        packages=("langchain-ollama",),
        key="`client_kwargs`, or `OLLAMA_API_KEY`",
    ),
    Client(
        title="LlamaIndex",
        page="llamaindex",
        packages=("llama-index-llms-ollama",),
        key="`headers`, or `OLLAMA_API_KEY`",
    ),
    Client(
        title="LiteLLM, `ollama_chat/`",
        page="litellm",
        packages=("litellm",),
        key="`api_key`",
        note="does not retry",
    ),
    Client(
        title="LiteLLM, `openai/`",
        page="litellm",
        number=2,
        packages=("litellm",),
        key="`api_key`",
        note="stops only where the answer is closed: use `with`",
    ),
    Client(title="Pydantic AI", page="pydantic-ai", packages=("pydantic-ai-slim",), key="`api_key`"),
    Client(
        title="Semantic Kernel",
        page="semantic-kernel",
        group="semantic-kernel",
        packages=("semantic-kernel",),
        key="`headers` of its client, or `OLLAMA_API_KEY`",
    ),
    Client(title="Haystack", page="haystack", packages=("ollama-haystack",), key="`OLLAMA_API_KEY`"),
    Client(
        title="DSPy",
        page="dspy",
        packages=("dspy",),
        key="`api_key`",
        streams=False,
    ),
    Client(title="Instructor", page="instructor", packages=("instructor",), key="`api_key`", streams=False),
    Client(
        title="llm",
        page="llm",
        packages=("llm", "llm-ollama"),
        key="`OLLAMA_API_KEY`",
        says=dict.fromkeys(("wrong_key", "refused_model"), "Unknown model"),
        note="shows a wrong key as an unknown model",
    ),
    Client(title="HTTPie", page="httpie", packages=("httpie",), key="`-A bearer -a`"),
    Client(title="curl", page="curl", group="system", packages=("curl",), key="`-u`, or `-H`"),
    Client(
        title="wget",
        page="wget",
        group="system",
        packages=("wget",),
        key="`--auth-no-challenge`",
        says={"wrong_key": "Authentication Failed"},
    ),
    Client(title="ollama (JavaScript)", page="ollama-js", group="js", packages=("ollama",), key=HEADERS),
    Client(title="openai (JavaScript)", page="openai-js", group="js", packages=("openai",), key="`apiKey`"),
    Client(
        title="anthropic (JavaScript)",
        page="anthropic-js",
        group="js",
        packages=("@anthropic-ai/sdk",),
        key="`authToken`",
    ),
    Client(
        title="LangChain (JavaScript)",
        page="langchain-js",
        group="js",
        packages=("@langchain/ollama",),
        key=HEADERS,
        note="stops by `model.client.abort()`, not by a signal",
    ),
    Client(
        title="Vercel AI SDK, OpenAI",
        page="vercel-ai-sdk",
        group="js",
        packages=("@ai-sdk/openai-compatible", "ai"),
        key="`apiKey`",
    ),
    Client(
        title="Vercel AI SDK, Ollama",
        page="vercel-ai-sdk",
        number=2,
        group="js",
        packages=("ollama-ai-provider-v2", "ai"),
        key=HEADERS,
        says={**NO_WORDS, "cut": "terminated"},
        note="shows only the status's name",
    ),
    Client(
        title="Vercel AI SDK, Anthropic",
        page="vercel-ai-sdk",
        number=3,
        group="js",
        packages=("@ai-sdk/anthropic", "ai"),
        key="`authToken`",
    ),
)
"""All of them, in the order of the table."""


@dataclass(frozen=True, kw_only=True)
class Large:
    """One program that ``scripts/clients NAME`` installs and runs.

    Attributes:
        by: what installs it.
        package: its name there.
        command: what starts it.
        key: how it is given a key.
        note: what a user should know, for the table.
        says: its own words, by action, where it does not show the proxy's.
        fails: whether its exit status tells of an error.
    """

    by: Literal["npm", "pip"]
    package: str
    command: str
    key: str
    note: str = ""
    says: Mapping[str, str] = field(default_factory=dict)
    fails: bool = True


LARGE: Final[Mapping[str, Large]] = {
    "claude-code": Large(
        by="npm",
        package="@anthropic-ai/claude-code",
        command="claude",
        key="`ANTHROPIC_AUTH_TOKEN`, `ANTHROPIC_API_KEY`",
    ),
    "codex": Large(
        by="npm",
        package="@openai/codex",
        command="codex",
        key="`env_key`",
        note="waits out a limit, unless told not to",
        says={"rate_limited": "last status: 429 Too Many Requests"},
    ),
    "opencode": Large(by="npm", package="opencode-ai", command="opencode", key="`apiKey`", note="waits out a limit"),
    "continue": Large(by="npm", package="@continuedev/cli", command="cn", key="`apiKey`"),
    "aider": Large(
        by="pip", package="aider-chat", command="aider", key="`OLLAMA_API_KEY`", note="retries every error", fails=False
    ),
    "promptfoo": Large(
        by="npm",
        package="promptfoo",
        command="promptfoo",
        key="`apiKeyEnvar`",
        note="its provider for Ollama takes errors for answers",
        says={"wrong_key": "HTTP 401", "refused_model": "HTTP 403"},
        fails=False,
    ),
}
"""All of them, by the name of their page."""
