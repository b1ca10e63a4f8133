"""The settings of the policy file."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from config.addresses import PORT, Address, HostName, Network, Permissions
from config.backends import Backend, Pool, distinct
from config.declared_routes import NAMING, ExtraRoute
from config.entries import Entry
from config.problems import Mistakes, Path
from config.section import Model, as_tuple, check_name
from config.store import check_store, is_shared
from proxy.kernel.units import (
    ConfigFile,
    Context,
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
"""The default address, also for commands that query a running proxy."""

MOST_WORKERS: Final = 256


class Tls(Model):
    """TLS on every address of host and port that the proxy listens on."""

    cert: ConfigFile
    """The certificate with its chain, PEM."""
    key: ConfigFile
    """The private key of `cert`, PEM."""
    client_ca: ConfigFile | None = None
    """Refuse clients that show no certificate signed by this CA, PEM."""


class Head(Model):
    """Bounds on the head of a request, which comes before any credential is checked."""

    size: Annotated[Size, Field(ge=1024, le=2**20)] = 64 * 2**10
    """Size of the request line and the headers together; a larger head gets 431."""
    fields: Annotated[int, Field(ge=8, le=1000)] = 100
    """The number of headers; a head with more gets 431."""
    deadline: Annotated[Duration, Least("100ms")] = 10.0
    """Time for the whole head to arrive; a later one gets 408."""


class Body(Model):
    """Bounds on the memory and time that request bodies may take."""

    each: Annotated[Size, Least("1KiB")] = 64 * 2**20
    """The largest single body that is read; a larger one gets 413."""
    total: Annotated[Size, Least("1KiB")] = 512 * 2**20
    """Size of all bodies held at once; further bodies get 503."""
    share: Annotated[Percent, Field(gt=0)] = 0.25
    """The part of `total` that the bodies of one caller may take, and of what other callers leave of it; beyond it 429.

    If left out, it has room for one body of `each`. A caller is an identity, or else an address (IPv6: a /64)."""
    timeout: Annotated[Duration, Least("100ms")] = 30.0
    """How long a client may send nothing of a body, give or take a factor of two; then it gets 408."""
    rate: Size = 16 * 2**10
    """Bytes a second that a body must bring; 408 for a body late by more than `timeout`. Blobs may be slower."""

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
    """Bounds on the number of client connections open at once.

    The defaults follow from the number of files that the process may have open: each connection takes one file, and one
    more for the backend that answers it. The proxy raises that number as far as it may (`LimitNOFILE`, `ulimit -Hn`).
    """

    total: Annotated[int, Field(ge=1)] | None = None
    """All connections; by default nearly half the number of files, at most 8192. When all are open, the proxy closes
    idle ones, or answers new ones with 503."""
    per_address: Annotated[int, Field(ge=1)] | None = None
    """Connections of one IPv4 address or IPv6 /64, `trusted_proxies` excepted; by default three fourths of `total`."""
    handshakes: Annotated[int, Field(ge=1)] | None = None
    """TLS handshakes that run at once, a fourth of them of one address; others wait. By default 256, or fewer."""


class WebSocket(Model):
    """WebSockets: how long one may live, and what it may hold."""

    enabled: bool = True
    """Let clients open WebSockets; if not, such a request is answered like any other GET."""
    ping: Annotated[Duration, Least("100ms")] = 20.0
    """Time between pings, which keep a connection open at the proxies in between."""
    pong: Annotated[Duration, Least("100ms")] = 10.0
    """How long a client may be silent after a ping; then the connection is cut."""
    idle: Annotated[Duration, Least("100ms")] = 600.0
    """How long a socket is kept on which no request runs."""
    total: Annotated[Duration, Least("100ms")] = 3600.0
    """The age at which a socket takes no further requests, and closes when its last answer is out."""
    requests: Annotated[int, Field(ge=1, le=100)] = 8
    """How many requests of one socket run at once."""
    waiting: Annotated[int, Field(ge=0, le=1000)] = 16
    """How many further requests of one socket wait for these, `0` for none; beyond them 429."""
    memory: Size = 4 * 2**20
    """Size of the conversations that one socket remembers, for `previous_response_id`; counted in `body.total` too."""


class Server(Model):
    """The names of the proxy, and bounds and deadlines for clients."""

    hosts: tuple[Annotated[str, HostName()], ...] = ()
    """Names by which callers reach the proxy, without a port; `*.example.com` is every name below. Other names
    need a key, token or signature, except local names and addresses and those in the certificate."""
    connections: Connections = Connections()
    """Bounds on connections."""
    head: Head = Head()
    """Bounds on request heads."""
    body: Body = Body()
    """Bounds on request bodies."""
    websocket: WebSocket = WebSocket()
    """WebSockets."""
    write: Annotated[Duration, Least("100ms")] = 30.0
    """How long a client may take nothing of its answer."""
    keep_alive: Annotated[Duration, Least("100ms")] = 75.0
    """How long a connection may wait for its next request."""
    shutdown: DurationOrZero = 30.0
    """How long running streams may continue after SIGTERM; `0s` ends them at once."""
    unix_mode: Annotated[int, Permissions()] = 0o660
    """Permissions of the unix sockets that the proxy listens on."""


class Log(Model):
    """The log of the proxy's own events, such as a backend that went down. The plugin `logging` logs requests."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    format: Literal["json", "console", "ecs", "otel"] = "json"
    """The format of lines: `json`; `console` for people; JSON with the names of Elastic's Common Schema (`ecs`) or of
    OpenTelemetry (`otel`)."""


class Ops(Model):
    """The routes under `/-/`: status, metrics and the operator's commands."""

    listen: Address | None = None
    """Answer these routes only at this address, except `/-/healthz` and `/-/readyz`; if left out, at every address."""


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
    """Listen beyond this machine without a plugin that authenticates callers."""
    tls: Tls | None = None
    """Serve HTTPS."""
    trusted_proxies: tuple[Annotated[IPv4Network | IPv6Network | Literal["unix"], Network()], ...] = ()
    """The proxies in front of this one whose `X-Forwarded-For` is trusted; `unix` for every caller on a unix socket."""
    server: Server = Server()
    """The names of the proxy, and bounds and deadlines for clients."""
    log: Log = Log()
    """The proxy's own events."""
    ops: Ops = Ops()
    """The routes under `/-/`."""
    backends: Annotated[tuple[Backend, ...], Field(min_length=1), AfterValidator(distinct)]
    """The Ollama hosts behind the proxy."""
    pool: Pool = Pool()
    """How the proxy chooses among the backends, and checks them."""
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | Literal["auto"] = 1
    """Processes that serve together; `auto`: one for each CPU that may be used. More than one need a store in Redis."""
    store: Secret = Secret("memory")
    """Where limits are counted and requests are kept that outlive their connection: `memory`, which ends with the
    process; `sqlite:state.db`, a file that outlasts it; or `redis://host:6379/0`, which several proxies share."""
    routes: tuple[ExtraRoute, ...] = ()
    """Routes in addition to the known routes of Ollama, and other properties for known ones."""
    middleware: tuple[Entry, ...] = ()
    """The chain of plugins, outermost first; requests pass them in this order."""
    policies: Annotated[
        Mapping[str, Mapping[str, Override]], Field(title="a mapping of policies"), AfterValidator(_names)
    ] = {}
    """Each policy changes the options of plugins, or turns plugins `off`, for the callers who have it."""

    @field_validator("store")
    @classmethod
    def _is_store(cls, store: Secret, info: ValidationInfo) -> Secret:
        return Secret(check_store(store.get_secret_value(), Context.of(info).folder))

    @model_validator(mode="after")
    def _workers_share_a_store(self) -> "Settings":
        if self.workers != 1 and not is_shared(self.store.get_secret_value()):
            times = "as often as there are workers" if self.workers == "auto" else f"{self.workers} times"
            raise Mistakes(
                [
                    (
                        ("workers",),
                        Mistake(
                            f"workers: {self.workers} needs a store that they share; limits would count {times}",
                            "name a Redis, store: redis://host:6379/0, or take workers: 1",
                        ),
                    )
                ]
            )
        return self

    @model_validator(mode="after")
    def _slots_are_taken(self) -> "Settings":
        """Refuse an inference route that would bypass the slots: the model of a request decides its slots."""
        bounded = any(
            backend.slots or backend.slots_per_model != "auto" or backend.model_slots for backend in self.backends
        )
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
        """Return the paths of the listen addresses that other machines can reach."""
        found: list[Path] = [("listen", index) for index, address in enumerate(self.listen) if not address.local]
        if self.ops.listen is not None and not self.ops.listen.local:
            found.append(("ops", "listen"))
        return tuple(found)
