"""What may stand in the policy file."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from config.addresses import PORT, Address, HostName, Network, Permissions
from config.backends import Backend, Pool, distinct
from config.entries import Entry
from config.problems import Mistakes, Path
from config.routes import NAMING, ExtraRoute
from config.section import Model, as_tuple, check_name
from proxy.kernel.units import (
    ConfigFile,
    Duration,
    DurationOrZero,
    Least,
    Mistake,
    Percent,
    Secret,
    Size,
    format_percent,
    format_size,
)

LISTEN: Final = Address("127.0.0.1", PORT)
"""The default, also of the commands that ask a running proxy."""
STORES: Final = ("redis://", "rediss://", "redis+unix://", "redis+sentinel://", "redis+cluster://", "valkey://")


class Tls(Model):
    """TLS on everything that listens on a host and port."""

    cert: ConfigFile
    """The certificate with its chain, PEM."""
    key: ConfigFile
    """Its private key, PEM."""
    client_ca: ConfigFile | None = None
    """Refuse clients that show no certificate signed by this CA, PEM."""


class Head(Model):
    """Bounds on a request's head, which a stranger writes."""

    size: Annotated[Size, Field(ge=1024, le=2**20)] = 64 * 2**10
    """The request line and the headers together; beyond it 431."""
    fields: Annotated[int, Field(ge=8, le=1000)] = 100
    """The number of headers; beyond it 431."""
    deadline: Annotated[Duration, Least("100ms")] = 10.0
    """For the whole head to arrive; beyond it 408."""


class Body(Model):
    """The memory that request bodies may take, and the time."""

    each: Annotated[Size, Least("1KiB")] = 64 * 2**20
    """The largest single body that is read; beyond it 413."""
    total: Annotated[Size, Least("1KiB")] = 512 * 2**20
    """All bodies held at once; beyond it 503."""
    share: Annotated[Percent, Field(gt=0)] = 0.25
    """The part of `total` that the bodies of one caller may take, and of what others leave of it; beyond it 429.

    Left out, it has room for one body of `each`. A caller is an identity, or an address (IPv6: its /64) without one."""
    timeout: Annotated[Duration, Least("100ms")] = 30.0
    """How long a client may send nothing of a body, give or take a factor of two; beyond it 408."""
    rate: Size = 16 * 2**10
    """Bytes a second that a body must bring; 408 for one that is late by more than `timeout`. Blobs may be slower."""

    @model_validator(mode="after")
    def _fit(self) -> "Body":
        if self.each > self.total:
            raise Mistakes([(("each",), Mistake("is larger than total"))])
        if "share" in self.model_fields_set and self.each > self.share * self.total:
            most = f"{format_percent(self.share)} of {format_size(self.total)}"
            hint = "raise total or share, or lower each"
            raise Mistakes([(("share",), Mistake(f"lets no caller send one body of each: that is {most}", hint))])
        return self


class Connections(Model):
    """How many connections of clients there may be at once.

    What is left out follows from the number of files that the process may have open: each connection takes one, and
    one more for the host that answers it. The proxy raises that number as far as it may (`LimitNOFILE`, `ulimit -Hn`).
    """

    total: Annotated[int, Field(ge=1)] | None = None
    """All; if left out, nearly half the number of files, at most 8192. Then idle ones make way, or new ones get 503."""
    per_address: Annotated[int, Field(ge=1)] | None = None
    """Those of one IPv4 address or IPv6 /64, `trusted_proxies` excepted; three fourths of `total` if left out."""
    handshakes: Annotated[int, Field(ge=1)] | None = None
    """TLS handshakes that run at once, a fourth of them of one address; others wait. 256, or fewer, if left out."""


class Server(Model):
    """What the proxy is called, and bounds and deadlines towards clients."""

    hosts: tuple[Annotated[str, HostName()], ...] = ()
    """Names that callers reach the proxy by, without a port; `*.example.com` is every name below. Others are refused to
    callers who show no key, token or signature, but for local names and addresses and those in the certificate."""
    connections: Connections = Connections()
    """Bounds on connections."""
    head: Head = Head()
    """Bounds on request heads."""
    body: Body = Body()
    """Bounds on request bodies."""
    write: Annotated[Duration, Least("100ms")] = 30.0
    """How long a client may take nothing of its answer."""
    keep_alive: Annotated[Duration, Least("100ms")] = 75.0
    """How long a connection may wait for its next request."""
    shutdown: DurationOrZero = 30.0
    """How long running streams may go on after SIGTERM; `0s` ends them at once."""
    unix_mode: Annotated[int, Permissions()] = 0o660
    """Permissions of the unix sockets that are listened on."""


class Log(Model):
    """The proxy's own events, such as a backend that went down. The lines of requests are those of `logging`."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""
    format: Literal["json", "console", "ecs", "otel"] = "json"
    """How lines look: JSON, for people, or JSON with the names of Elastic's Common Schema or of OpenTelemetry."""


class Ops(Model):
    """The routes under `/-/`: status, metrics, and what an operator can do."""

    listen: Address | None = None
    """Answer them there and nowhere else, but for `/-/healthz` and `/-/readyz`; beside everything else if left out."""


Override = dict[str, Any] | Literal["off"]


def _names(policies: Mapping[str, Mapping[str, Override]]) -> Mapping[str, Mapping[str, Override]]:
    odd: list[tuple[Path, Mistake]] = []
    for name in policies:
        try:
            check_name(name)
        except Mistake:
            odd.append(((name,), Mistake("a policy's name is made of letters, digits, dot, dash and underscore")))
    if odd:
        raise Mistakes(odd)
    return policies


class Settings(Model):
    """A policy file."""

    listen: Annotated[
        tuple[Address, ...],
        Field(min_length=1),
        BeforeValidator(as_tuple, json_schema_input_type=Address | Annotated[list[Address], Field(min_length=1)]),
    ] = (LISTEN,)
    """`host:port` or `unix:/path`; a list listens on several."""
    allow_anonymous_network: bool = False
    """Listen beyond this machine without a plugin that asks who is calling."""
    tls: Tls | None = None
    """Serve HTTPS."""
    trusted_proxies: tuple[Annotated[IPv4Network | IPv6Network | Literal["unix"], Network()], ...] = ()
    """The proxies in front of this one, whose `X-Forwarded-For` counts; `unix` for whoever calls by a unix socket."""
    server: Server = Server()
    """What the proxy is called, and bounds and deadlines towards clients."""
    log: Log = Log()
    """The proxy's own events."""
    ops: Ops = Ops()
    """The routes under `/-/`."""
    backends: Annotated[tuple[Backend, ...], Field(min_length=1), AfterValidator(distinct)]
    """The Ollama hosts behind the proxy."""
    pool: Pool = Pool()
    """How the backends are used together."""
    store: Secret = Secret("memory")
    """Where limits are counted: `memory`, or `redis://host:6379/0` once several proxies share them."""
    routes: tuple[ExtraRoute, ...] = ()
    """Routes beyond those of the Ollama that this release knows, and other ideas of some that it knows."""
    middleware: tuple[Entry, ...] = ()
    """The chain, outermost first; this order is the order."""
    policies: Annotated[
        Mapping[str, Mapping[str, Override]], Field(title="a mapping of policies"), AfterValidator(_names)
    ] = {}
    """Each changes the options of plugins, or turns them `off`, for the callers who have it."""

    @field_validator("store")
    @classmethod
    def _is_store(cls, store: Secret) -> Secret:
        if store.get_secret_value() != "memory" and not store.get_secret_value().startswith(STORES):
            raise Mistake("expected memory, or a URL like redis://host:6379/0")
        return store

    @model_validator(mode="after")
    def _slots_are_taken(self) -> "Settings":
        """Refuse a route that would pass by the slots: those of a request are found by its model."""
        bounded = any(backend.slots or backend.model_slots for backend in self.backends)
        odd: list[tuple[Path, Mistake]] = [
            (("routes", index), Mistake("takes no slot of a backend: it does not say where its model is named", NAMING))
            for index, extra in enumerate(self.routes)
            if bounded and extra.route.kind == "inference" and not extra.route.names_model
        ]
        if odd:
            raise Mistakes(odd)
        return self

    @property
    def exposed(self) -> tuple[Path, ...]:
        """Where addresses stand that others than this machine can reach."""
        found: list[Path] = [("listen", index) for index, address in enumerate(self.listen) if not address.local]
        if self.ops.listen is not None and not self.ops.listen.local:
            found.append(("ops", "listen"))
        return tuple(found)
