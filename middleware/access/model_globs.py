"""Sets of models in a policy, written as names and globs.

::

    llama3.2          that model with the tag latest, as for Ollama
    llama3.2:*        all its tags
    llama3.2*         all tags of all models whose name begins so (llama3.2-vision, too)
    *:1b, *coder*     names that end so, or contain it, in any namespace
    alice/*           all models of a namespace of Ollama's registry
    *                 all of Ollama's registry
    hf.co/*           all of another registry; a first part with a dot or a port is a host
    */*/*             all of every registry
    gpt-oss:20b-cloud, gpt-oss:*-cloud, *cloud      cloud models: only a pattern with this ending names them

A ``*`` stands for any run of characters, and a glob for the whole name with its tag. Matching is linear.
"""

import re
from collections.abc import Iterable
from typing import Final

from proxy.kernel.model_names import HOST, NAMESPACE, ModelName
from proxy.kernel.model_names import parse as parse_model

_GLOB: Final = re.compile(r"[a-z0-9_.:/*-]+")


class ModelGlobs:
    """A set of models.

    Args:
        patterns: names and globs; raises ValueError for one that can never match a name.
        cloud: whether a glob without the cloud ending also matches cloud models.
    """

    def __init__(self, patterns: Iterable[str], *, cloud: bool = False) -> None:
        globs = [canonical(pattern) for pattern in patterns]
        self._local = [glob.split("*") for glob in globs]
        self._cloud = [glob.split("*") for glob in globs if cloud or glob.endswith("cloud")]

    def __contains__(self, name: ModelName) -> bool:
        full = name.full
        return any(_matches(glob, full) for glob in (self._cloud if name.cloud else self._local))


def canonical(pattern: str) -> str:
    """Return `pattern` as a glob for `ModelName.full`; raises ValueError."""
    text = pattern.strip().lower()
    if "*" not in text:
        name = parse_model(text)
        if name is None:
            raise ValueError(f"{pattern!r} is not the name of a model")
        return name.full
    text = text.split("://", 1)[-1]
    if not _GLOB.fullmatch(text):
        raise ValueError(f"{pattern!r} holds characters that no name of a model has")
    first, slash, rest = text.partition("/")
    if not slash:
        text = f"{HOST}/{text}" if text.startswith("*") else f"{HOST}/{NAMESPACE}/{text}"
    elif "/" not in rest and not {".", ":"} & {*first}:
        text = f"{HOST}/{text}"
    return text


def _matches(parts: list[str], text: str) -> bool:
    """Return whether `text` is `parts` with anything in between, each part at its first match."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in parts[1:-1]:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
