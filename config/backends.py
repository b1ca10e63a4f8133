"""The sections of the policy file about the backends."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema, core_schema

from config.addresses import Url
from config.problems import Mistakes, Path
from config.section import Model, Name
from proxy.kernel.selection_strategies import DEFAULT_ORDER, STRATEGIES
from proxy.kernel.units import ConfigFile, Duration, DurationOrZero, Least, Mistake, Percent, Secret, format_duration

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
"""A timeout long enough for any backend to answer within it."""


class BackendTls(Model):
    """How the proxy verifies the identity of a backend."""

    ca: ConfigFile | None = None
    """The CA that signed the backend's certificate, PEM; the system's CAs if left out."""
    cert: ConfigFile | None = None
    """The client certificate to show, PEM."""
    key: ConfigFile | None = None
    """The private key of `cert`, PEM."""
    server_name: str | None = None
    """The name to expect in the certificate, if it differs from the URL's."""
    verify: bool = True
    """Verify the certificate. Turn off only on a network where nobody can intercept the connection."""

    @model_validator(mode="after")
    def _belong_together(self) -> "BackendTls":
        if (self.cert is None) != (self.key is None):
            raise Mistake("cert and key belong together")
        return self


class Backend(Model):
    """One Ollama host."""

    name: Name
    """The name that logs, metrics and commands use."""
    url: Url
    """The address of the backend."""
    slots: Positive | None = None
    """Requests that the backend may run at once, of all models together; leave out for no bound."""
    slots_per_model: Literal["auto"] | Positive = "auto"
    """Requests of each model that it runs at once: its `OLLAMA_NUM_PARALLEL`. With `auto` the proxy learns how many,
    and keeps to it where the chain has the `queue`."""
    model_slots: Mapping[str, Positive] = {}
    """The same for single models, for example `{llama3.3:70b: 1}`; it goes before `slots_per_model`."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """The backend's share of the work relative to the other backends."""
    tls: BackendTls | None = None
    """For `https` URLs: certificates."""
    headers: Mapping[str, Secret] = {}
    """Headers added to every request to the backend, for example its own `Authorization`."""

    @model_validator(mode="after")
    def _fit_together(self) -> "Backend":
        per_model = self.slots_per_model
        if self.slots is not None and per_model != "auto" and per_model > self.slots:
            raise Mistake(f"slots_per_model is {per_model}, but slots allows no more than {self.slots} in all")
        return self

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
    """How long each part of a request to a backend may take. The error and the log name the timeout that expired."""

    connect: Patience = 2.0
    """Until a connection, with TLS, is made."""
    load: Patience | None = None
    """Until the first byte if the model must be loaded first; `first_byte` if left out."""
    first_byte: Patience = 600.0
    """From the request until the first byte of the answer."""
    idle: Patience = 120.0
    """Between two chunks of a streamed answer."""
    tools: Patience | None = None
    """Between two chunks of the answer to a request with `tools`, as Ollama sends nothing while it holds back a tool
    call; if left out, `idle` or `first_byte`, whichever is longer."""
    write: Patience = 30.0
    """Until the backend takes the next part of a request body."""
    total: Annotated[Duration, Least("100ms")] = 3600.0
    """For the whole answer, except to a request that `manage` is for."""
    manage: Patience = 3600.0
    """In place of `first_byte` and `idle` for a pull, push, create, copy, delete, and the upload of a file."""


class Health(Model):
    """Active probes of the backends."""

    every: Annotated[Duration, Least("50ms")] = 5.0
    """Time between two probes of a backend, varied at random."""
    timeout: Patience = 2.0
    """How long the answer to a probe may take."""
    down_after: Positive = 3
    """Failed probes in a row that mark a backend as down."""
    up_after: Positive = 1
    """Good probes in a row that mark it as up again."""


class Eject(Model):
    """Eject backends that fail requests, for a while. The last usable backend is never ejected."""

    after: Positive = 5
    """Failures in a row that eject a backend. One caller's requests count for at most half of them."""
    for_: Annotated[Duration, Least("100ms"), Field(alias="for")] = 30.0
    """How long the first ejection lasts; it grows while the failures continue."""
    longest: Annotated[Duration, Least("100ms")] = 600.0
    """The longest ejection."""
    at_most: Percent = 0.5
    """The share of the backends that may be ejected at once; `0%` ejects none."""
    ramp: DurationOrZero = 10.0
    """Time over which a returning backend gets back its full share of requests; `0s` gives it back at once."""


class _StrategyName:
    """Annotation for the name of a selection strategy in the kernel's table."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(STRATEGIES))


class Pool(Model):
    """How the proxy chooses among the backends, and checks them."""

    prefer: Annotated[tuple[Annotated[str, _StrategyName()], ...], Field(min_length=1)] = DEFAULT_ORDER
    """The criteria that choose between backends that have the model, the most important first."""
    spread_after: Annotated[int, Field(ge=0, le=100_000)] = 4
    """Requests that may wait for a model on the backends that have it loaded; when more wait, another backend loads it
    too. With `0`, it does so as soon as one request waits."""
    grace: DurationOrZero = 0.5
    """How long a slot stays reserved at least after its client left before the first token: the runner goes on to the
    end of its batch. `0s` frees it at once."""
    grace_at_most: DurationOrZero = 15.0
    """How long it stays reserved at most, or for `grace` where that is longer; how long it is in between is learned
    from when the next answers begin. `0s` goes only with a `grace` of `0s`."""
    timeouts: Timeouts = Timeouts()
    """How long each part of a request may take."""
    health: Health = Health()
    """Active probes of the backends."""
    eject: Eject = Eject()
    """When a backend that fails requests is ejected."""

    @model_validator(mode="after")
    def _has_a_span(self) -> "Pool":
        if "grace_at_most" in self.model_fields_set and self.grace_at_most < self.grace:
            raise Mistake(f"grace_at_most is shorter than grace, which is {format_duration(self.grace)}")
        return self


def distinct(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """Return `backends`, or raise Mistakes if two have the same name."""
    first: dict[str, int] = {}
    again: list[tuple[Path, Mistake]] = []
    for index, backend in enumerate(backends):
        known = first.setdefault(backend.name.lower(), index)
        if known != index:
            again.append(((index, "name"), Mistake(f"is the name of backends[{known}] already")))
    if again:
        raise Mistakes(again)
    return backends
