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

_WORD: Final = re.compile(r"[A-Za-z0-9_][-_.A-Za-z0-9]{0,79}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][-_A-Za-z0-9]{0,79}")
_HOST: Final = re.compile(r"[A-Za-z0-9_][-_.:A-Za-z0-9]{0,349}")


@dataclass(frozen=True, slots=True)
class ModelName:
    """One model, whichever way it was written. All parts are lower case.

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
        """Whether the model runs at the operator's cloud account."""
        return self.source == "cloud"

    @property
    def foreign(self) -> bool:
        """Whether the model comes from a registry that is not Ollama's."""
        return self.host != HOST

    @property
    def short(self) -> str:
        """The name as Ollama lists it: defaults left out, the tag always there."""
        return short(self.key)


@lru_cache(maxsize=4096)
def parse(text: str) -> ModelName | None:
    """Return the model that Ollama would take `text` for, or None where Ollama would refuse it as a name."""
    if len(text) > 1024:
        return None
    base, source = _split_source(text.strip())
    if source and _split_source(base)[1]:
        return None
    tag = TAG
    if base.rfind(":") > base.rfind("/"):
        base, _, tag = base.rpartition(":")
    base, _, model = base.rpartition("/")
    base, slash, namespace = base.rpartition("/")
    namespace = namespace if slash else namespace or NAMESPACE
    host = base.split("://", 1)[-1] or HOST
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
    word = suffix.strip().lower()
    if word == "cloud":
        return before, "cloud"
    if word == "local":
        return before, "local"
    if word.endswith("-cloud") and "/" not in word:
        return f"{before}:{suffix.strip()[: -len('-cloud')]}", "cloud"
    return text, None


def short(key: str) -> str:
    """Return a canonical key as people write it: ``registry.ollama.ai/library/llama3:latest`` → ``llama3:latest``."""
    return key.removeprefix(f"{HOST}/").removeprefix(f"{NAMESPACE}/")
