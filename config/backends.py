"""The part of the policy file about the Ollama hosts behind the proxy."""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema, core_schema

from config.addresses import Url
from config.problems import Mistakes, Path
from config.section import Model, Name
from proxy.kernel.selection_strategies import DEFAULT_ORDER, STRATEGIES
from proxy.kernel.units import ConfigFile, Duration, DurationOrZero, Least, Mistake, Percent, Secret

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Patience = Annotated[Duration, Least("10ms")]
"""With less, no host would ever answer in time."""


class BackendTls(Model):
    """How the proxy makes sure that it speaks to the right backend."""

    ca: ConfigFile | None = None
    """The CA that signed the backend's certificate, PEM; the system's CAs where left out."""
    cert: ConfigFile | None = None
    """The client certificate to show, PEM."""
    key: ConfigFile | None = None
    """The private key of `cert`, PEM."""
    server_name: str | None = None
    """The name to expect in the certificate where it is not the URL's."""
    verify: bool = True
    """Turn off only where nobody can stand between."""

    @model_validator(mode="after")
    def _belong_together(self) -> "BackendTls":
        if (self.cert is None) != (self.key is None):
            raise Mistake("cert and key belong together")
        return self


class Backend(Model):
    """One Ollama host."""

    name: Name
    """What logs, metrics and commands call it."""
    url: Url
    """Where it is."""
    slots: Positive | None = None
    """Requests it runs at once (its `OLLAMA_NUM_PARALLEL`); leave out for no bound."""
    model_slots: Mapping[str, Positive] = {}
    """The same for single models, for example `{llama3.3:70b: 1}`."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Its share of the work relative to the other backends."""
    tls: BackendTls | None = None
    """For `https` URLs: certificates."""
    headers: Mapping[str, Secret] = {}
    """Headers added to every request to it, for example its own `Authorization`."""

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: Mapping[str, Secret]) -> Mapping[str, Secret]:
        found: list[tuple[Path, Mistake]] = []
        for name, value in headers.items():
            text = value.get_secret_value()
            if not _TOKEN.fullmatch(name):
                found.append(((name,), Mistake("is not the name of a header")))
            elif name.lower() in _OURS:
                found.append(((name,), Mistake("is a header that the proxy itself has to set")))
            elif not (text.isascii() and text.isprintable()):
                found.append(((name,), Mistake("must be printable ASCII on one line")))
        if found:
            raise Mistakes(found)
        return headers


class Timeouts(Model):
    """How long each part of a request to a backend may take. Each names itself in the error and the log."""

    connect: Patience = 2.0
    """Until a connection, with TLS, is made."""
    load: Patience | None = None
    """Until the first byte where the model has yet to be loaded; `first_byte` where left out."""
    first_byte: Patience = 600.0
    """From the request until the first byte of the answer."""
    idle: Patience = 120.0
    """Between two chunks of a streamed answer."""
    write: Patience = 30.0
    """Until the backend takes the next part of a request body."""
    total: Annotated[Duration, Least("100ms")] = 3600.0
    """For the whole answer."""


class Health(Model):
    """Active probes of the backends."""

    every: Annotated[Duration, Least("50ms")] = 5.0
    """How often each backend is asked; spread at random."""
    timeout: Patience = 2.0
    """How long its answer may take."""
    down_after: Positive = 3
    """Failed probes in a row that make a backend down."""
    up_after: Positive = 1
    """Good probes in a row that bring it back."""


class Eject(Model):
    """Backends that fail requests are left out for a while. The last usable one never is."""

    after: Positive = 5
    """Failures in a row that eject a backend. One caller's word counts for half of them at most."""
    for_: Annotated[Duration, Least("100ms"), Field(alias="for")] = 30.0
    """For how long, the first time; it grows while the failures go on."""
    longest: Annotated[Duration, Least("100ms")] = 600.0
    """The longest it may grow to."""
    at_most: Percent = 0.5
    """The share of the backends that may be out at once; `0%`: none is ever ejected."""
    ramp: DurationOrZero = 10.0
    """How long a backend that comes back takes to get its full share again; `0s`: it gets it at once."""


class _StrategyName:
    """Annotation of a text that names a selection strategy of the kernel's table."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(STRATEGIES))


class Pool(Model):
    """How the backends are used together."""

    prefer: Annotated[tuple[Annotated[str, _StrategyName()], ...], Field(min_length=1)] = DEFAULT_ORDER
    """What decides between backends that have the model, the most important first."""
    spread_after: Annotated[int, Field(ge=0, le=100_000)] = 4
    """Requests that may wait for a model where it is warm; when more do, it is loaded on another backend too. With
    `0` it is as soon as one waits."""
    grace: DurationOrZero = 0.5
    """How long a slot is held back when its client left before the first token: the runner notices only then. `0s`
    gives it to the next one at once."""
    timeouts: Timeouts = Timeouts()
    """How long each part of a request may take."""
    health: Health = Health()
    """Active probes of the backends."""
    eject: Eject = Eject()
    """What happens to a backend that fails requests."""


def distinct(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """Return `backends`; raises Mistakes where two have one name."""
    first: dict[str, int] = {}
    again: list[tuple[Path, Mistake]] = []
    for index, backend in enumerate(backends):
        known = first.setdefault(backend.name.lower(), index)
        if known != index:
            again.append(((index, "name"), Mistake(f"is the name of backends[{known}] already")))
    if again:
        raise Mistakes(again)
    return backends
