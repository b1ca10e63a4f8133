"""Model names as Ollama reads them (types/model and internal/modelref of Ollama v0.33).

Written for the simulator alone: what a proxy under test believes about names must not be what it is tested with.
"""

from dataclasses import dataclass
from typing import Literal

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

Source = Literal["", "local", "cloud"]

# Unicode's White_Space, which Go trims; Python's own idea has four control characters more.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class BadName(ValueError):
    """A name that Ollama cannot read; the text is Ollama's own."""


class NameRequired(BadName):
    """No name at all."""


class ConflictingSource(BadName):
    """``x:local:cloud`` and the like."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name with its defaults filled in. `base` is what was written, without the source suffix."""

    host: str
    namespace: str
    model: str
    tag: str
    source: Source
    base: str

    @property
    def key(self) -> str:
        """The one spelling under which the store keeps the model; the source is no part of it."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}".lower()

    @property
    def short(self) -> str:
        """Return the name as ``/api/tags`` shows it: without defaults, but always with a tag."""
        if self.host.lower() != DEFAULT_HOST:
            prefix = f"{self.host}/{self.namespace}/"
        elif self.namespace.lower() != DEFAULT_NAMESPACE:
            prefix = f"{self.namespace}/"
        else:
            prefix = ""
        return f"{prefix}{self.model}:{self.tag}"


def parse(raw: str) -> Name:
    """Read `raw` with its source suffix (``:cloud``, ``:local``, a tag in ``-cloud``).

    Raises:
        BadName: and its subclasses.
    """
    raw = raw.strip(_SPACE)
    if not raw:
        raise NameRequired("model is required")
    base, source = _source(raw)
    if source and _source(base)[1]:
        raise ConflictingSource(f'use either :local or :cloud, not both: "{raw}"')
    return _parts(base, source)


def parse_stored(raw: str) -> Name:
    """Read the name of a model in the store, where the stub of a cloud model is called ``…-cloud`` itself."""
    name = parse(raw)
    if name.source != "cloud":
        return name
    tagged = name.base.rfind(":") > name.base.rfind("/")
    return _parts(f"{name.base}-cloud" if tagged else f"{name.base}:cloud", "cloud")


def parse_plain(raw: str) -> Name:
    """Read `raw` as ``/api/copy`` and ``/api/push`` do, where no source suffix is known."""
    return _parts(raw, "")


def filled_in(raw: str) -> str:
    """Return `raw`, which is no name, with the defaults that Ollama puts before and behind it in its texts."""
    tagged = raw if raw.rfind(":") > raw.rfind("/") else f"{raw}:{DEFAULT_TAG}"
    missing = (DEFAULT_HOST, DEFAULT_NAMESPACE)[: max(0, 2 - raw.count("/"))]
    return "/".join((*missing, tagged))


def _source(raw: str) -> tuple[str, Source]:
    """Split the source suffix off the text after the last colon."""
    head, colon, tail = raw.rpartition(":")
    if not colon:
        return raw, ""
    suffix = tail.strip(_SPACE)
    match suffix.lower():
        case "cloud":
            return head, "cloud"
        case "local":
            return head, "local"
    if "/" not in suffix and suffix.lower().endswith("-cloud"):
        return f"{head}:{suffix[: -len('-cloud')]}", "cloud"
    return raw, ""


def _parts(base: str, source: Source) -> Name:
    rest, host, namespace, tag = base, DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
    rest, slash, model = rest.rpartition("/")
    if slash:
        rest, slash, namespace = rest.rpartition("/")
        if slash:
            host = (rest.partition("://")[2] or DEFAULT_HOST) if "://" in rest else rest
    if not (_valid(host, 350, ".-:") and _valid(namespace, 80, "-") and _valid(model, 80) and _valid(tag, 80)):
        raise BadName(f'unqualified name: "{base}"')
    return Name(host, namespace, model, tag, source, base)


def _valid(part: str, longest: int, others: str = ".-") -> bool:
    return 1 <= len(part) <= longest and part[0] in _WORD and all(char in _WORD or char in others for char in part)
