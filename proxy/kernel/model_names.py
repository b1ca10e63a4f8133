"""Model names, reduced to one canonical key.

Ollama reads ``llama3``, `` LLAMA3:Latest ``, ``library/llama3``, ``x://registry.ollama.ai/library/llama3:latest`` and
``llama3:local`` as one model. A policy that compared text would be passed by any of them, so everything that decides
by model compares `ModelName.key`.

::

    [scheme://] [host/] [namespace/] model [:tag] [:source]        source = local | cloud, or a tag ending in -cloud
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

HOST: Final = "registry.ollama.ai"
NAMESPACE: Final = "library"
TAG: Final = "latest"

Source = Literal["local", "cloud"]

# The characters that Go's strings.TrimSpace trims; Python's strip() also takes the separators U+001C to U+001F.
_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

RUNNER_OPTIONS: Final = (
    *("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"),
)
"""Options of a model's runner, not of the answer: where one differs, Ollama loads the model anew."""

LONGEST: Final = 1024
"""Longest name, in characters; longer text is no name."""
_WORD: Final = re.compile(r"[A-Za-z0-9_][-_.A-Za-z0-9]{0,79}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][-_A-Za-z0-9]{0,79}")
_HOST: Final = re.compile(r"[A-Za-z0-9_][-_.:A-Za-z0-9]{0,349}")


@dataclass(frozen=True, slots=True)
class ModelName:
    """One model, in whichever way it was written. All parts are lower case.

    Attributes:
        host: registry host with optional port.
        source: "cloud" models run at, and bill, the operator's account.
        key: ``host/namespace/model:tag``, with ``@cloud`` behind a cloud model; what policies and pools compare.
    """

    host: str
    namespace: str
    model: str
    tag: str
    source: Source
    key: str

    @property
    def cloud(self) -> bool:
        """Return whether the model runs in the operator's cloud account."""
        return self.source == "cloud"

    @property
    def foreign(self) -> bool:
        """Return whether the model comes from a registry that is not Ollama's."""
        return self.host != HOST

    @property
    def full(self) -> str:
        """The whole name in Ollama's own spelling, ``…/gpt-oss:120b-cloud`` and ``…/qwen3:cloud`` for cloud models."""
        name = f"{self.host}/{self.namespace}/{self.model}"
        if not self.cloud:
            return f"{name}:{self.tag}"
        return f"{name}:cloud" if self.tag == TAG else f"{name}:{self.tag}-cloud"

    @property
    def short(self) -> str:
        """The name as Ollama lists it: default host and namespace left out, the tag always there."""
        return self.full.removeprefix(f"{HOST}/").removeprefix(f"{NAMESPACE}/")


def parse(text: str) -> ModelName | None:
    """Return the model that Ollama would take `text` for, or None where Ollama would refuse it as a name."""
    return _parse(text) if len(text) <= LONGEST else None  # before the cache: it keeps what it is asked about


@lru_cache(maxsize=4096)
def _parse(text: str) -> ModelName | None:
    base, source = _split_source(text.strip(_SPACE))
    if source and _split_source(base)[1]:
        return None
    tag = TAG
    if base.rfind(":") > base.rfind("/"):
        base, _, tag = base.rpartition(":")
    host, namespace = HOST, NAMESPACE
    base, slash, model = base.rpartition("/")
    if slash:
        base, slash, namespace = base.rpartition("/")
        if slash:
            host = base and (base.split("://", 1)[-1] or HOST)
    if not (
        _WORD.fullmatch(model) and _WORD.fullmatch(tag) and _NAMESPACE.fullmatch(namespace) and _HOST.fullmatch(host)
    ):
        return None
    host, namespace, model, tag = host.lower(), namespace.lower(), model.lower(), tag.lower()
    key = f"{host}/{namespace}/{model}:{tag}" + ("@cloud" if source == "cloud" else "")
    return ModelName(host, namespace, model, tag, source or "local", key)


def _split_source(text: str) -> tuple[str, Source | None]:
    before, colon, suffix = text.rpartition(":")
    if not colon:
        return text, None
    word = suffix.strip(_SPACE).lower()
    if word == "cloud":
        return before, "cloud"
    if word == "local":
        return before, "local"
    if word.endswith("-cloud") and "/" not in word:
        return f"{before}:{suffix.strip(_SPACE)[: -len('-cloud')]}", "cloud"
    return text, None
