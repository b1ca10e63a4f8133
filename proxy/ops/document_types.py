"""The JSON documents of the routes under ``/-/``. The OpenAPI document takes their schemas from these classes.

Times of day are RFC 3339 in UTC. All other times are seconds relative to the document's `at`, so that the reader's
clock may be wrong.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict

from proxy.kernel.errors import Outcome
from proxy.kernel.journal import Kind
from proxy.kernel.journal import State as EntryState
from proxy.kernel.quotas import Unit
from proxy.pool.health import State

_DESCRIBED: Final = ConfigDict(use_attribute_docstrings=True)

Phase = Literal["starting", "queued", "loading", "waiting", "answering", "finished"]


@dataclass(slots=True)
class Health:
    """The process answers."""

    __pydantic_config__: ClassVar = _DESCRIBED
    status: Literal["ok"] = "ok"


@dataclass(slots=True)
class Readiness:
    """Tells whether requests can be served."""

    __pydantic_config__: ClassVar = _DESCRIBED
    ready: bool
    reason: str
    """Why requests can, or cannot, be served."""
    fleet: Literal["shared", "alone"] | None = None
    """`shared`: the slots are shared with other proxies. `alone`: they would be, but Redis does not answer, and this
    proxy goes on with its share. null where the policy file has nothing to share."""


@dataclass(slots=True)
class Done:
    """The result of an action that succeeded."""

    __pydantic_config__: ClassVar = _DESCRIBED
    done: str
    """What was done, in one sentence."""


@dataclass(slots=True)
class Model:
    """A model in the memory of a backend."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    loading: bool
    """Whether a request of this proxy is making the backend load the model."""
    vram: int
    """Bytes of GPU memory; 0 until the backend was asked."""
    context_length: int | None
    """The context length, in tokens, that the model was loaded with."""
    expires: str | None
    """When the backend unloads the model unless a request uses it, as the backend says."""
    active: int
    """The number of this proxy's requests that use the model."""
    slots: int | None
    """How many requests of the model the backend runs at once, as the policy file says or as was learned; null for no
    bound."""


@dataclass(slots=True)
class Backend:
    """One Ollama host."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    url: str
    """The URL as the policy file writes it; `${NAME}` is not replaced."""
    state: State
    reason: str
    """Why the backend is in this state."""
    since: float
    """Seconds since the backend entered this state; 0 where its state never changed."""
    version: str | None
    """The version of Ollama."""
    seen: float | None
    """Seconds since the backend last answered a health probe."""
    slots: int | None
    """The most requests that the backend may run at once, of all models together; null for no bound."""
    active: int
    """The number of this proxy's requests that the backend runs."""
    permits: int | None
    """The most that this proxy may run there now, where it shares the slots with others; null where it does not."""
    weight: float
    tokens_per_second: float
    """Tokens per second of all running answers together; a streamed chunk counts as one token."""
    first_byte: float | None
    """Moving average of the seconds until the first byte of a model that is in memory."""
    last_error: str | None
    resident: list[Model]
    """The models in the backend's memory."""
    models: list[str] | None
    """The models that the backend has; null where they are not known, and in ticks."""


@dataclass(slots=True, kw_only=True)
class Request:
    """A request that runs or has ended."""

    __pydantic_config__: ClassVar = _DESCRIBED
    id: str
    state: Phase
    identity: str | None
    tenant: str | None
    policy: str | None
    client: str
    """The caller's address."""
    method: str
    route: str | None
    """The path pattern of the route; null where Ollama has no such route."""
    model: str | None
    backend: str | None
    reason: str | None
    """Why the pool chose this backend."""
    attempts: int
    generation: int
    """The number of the configuration that the request runs under."""
    started: str
    seconds: float
    """Seconds since the request came; of a request that has ended, seconds until its end."""
    queued: float
    """Seconds that the request has spent in the queue."""
    queue_position: int | None
    """The request's first place in the queue; null where it did not wait."""
    first_byte: float | None
    """Seconds from the request's arrival to the first byte of its answer."""
    chunks: int
    """Chunks sent to the client; a chunk of a stream is about one token."""
    tokens_in: int | None
    """Tokens of the prompt; null while the request runs."""
    tokens_out: int | None
    """Tokens generated; null while the request runs."""
    tokens_per_second: float | None
    """Tokens per second since the first byte; while the request runs, each chunk counts as one."""
    status: int | None
    """HTTP status of the answer; null before the answer begins."""
    outcome: Outcome | None
    """How the request ended; null while it runs."""
    error_code: str | None
    error: str | None


@dataclass(slots=True)
class Tenant:
    """A tenant's part of the queue."""

    __pydantic_config__: ClassVar = _DESCRIBED
    tenant: str
    waiting: int


@dataclass(slots=True)
class Queue:
    """Requests that wait for a slot."""

    __pydantic_config__: ClassVar = _DESCRIBED
    waiting: int
    oldest: float
    """Seconds that the oldest request has waited."""
    tenants: list[Tenant]


@dataclass(slots=True)
class Limit:
    """A counter of a limit that was used lately."""

    __pydantic_config__: ClassVar = _DESCRIBED
    limit: str
    """The name of the entry in the policy file and, where the entry has several limits, the name of the limit."""
    whom: str
    """Whom the counter belongs to: ``identity=alice``."""
    unit: Unit
    window: str | None
    """The period: ``minute``, ``day``, ``10s``; null for a limit of running requests."""
    used: int
    amount: int
    resets_in: float
    """Seconds until the counter has more room."""


@dataclass(slots=True)
class Bodies:
    """The memory that request bodies take, in bytes."""

    __pydantic_config__: ClassVar = _DESCRIBED
    held: int
    total: int
    """The most that all bodies together may take."""
    callers: int
    """The number of callers whose bodies are in memory."""
    largest: int
    """The memory of the caller whose bodies take most."""


@dataclass(slots=True)
class Config:
    """The configuration in force."""

    __pydantic_config__: ClassVar = _DESCRIBED
    file: str
    generation: int
    """The number of the configuration in force; counts from 1."""
    age: float
    """Seconds since the configuration came in force."""
    chain: str
    problems: list[str]
    """Why the last load refused the policy file; an earlier file is then in force."""
    restart: list[str]
    """Settings that the policy file changed and that need a restart."""


@dataclass(slots=True, kw_only=True)
class Deferred:
    """A deferred request or a batch: its state, without anybody's words."""

    __pydantic_config__: ClassVar = _DESCRIBED
    id: str
    kind: Kind
    state: EntryState
    identity: str | None
    tenant: str | None
    policy: str | None
    client: str
    """The address of the caller."""
    method: str
    route: str
    """The path that the request was sent to."""
    model: str | None
    batch: str | None
    """The batch that the request belongs to."""
    priority: int
    attempts: int
    """How often it was begun."""
    position: int | None
    """How many requests of the same tenant go before it; null where it does not wait, or that is not known."""
    created: str
    started: str | None
    """When the latest attempt began."""
    ended: str | None
    expires: str
    """When it is dropped, with its answer."""
    status: int | None
    """HTTP status of the answer; null before the answer begins."""
    recorded: int
    """Bytes of the answer so far."""
    error_code: str | None
    tokens_in: int | None
    tokens_out: int | None


@dataclass(slots=True)
class DeferredList:
    """Deferred requests and batches."""

    __pydantic_config__: ClassVar = _DESCRIBED
    entries: list[Deferred]
    """The newest first."""
    counts: dict[EntryState, int]
    """The number of all deferred requests, by state."""


@dataclass(slots=True)
class Journal:
    """The requests that outlive their connection."""

    __pydantic_config__: ClassVar = _DESCRIBED
    home: str
    """Where they are kept: `memory`, `sqlite:` and a path, or the URL of a Redis."""
    durable: bool
    """Whether they outlast the process."""
    reached: bool
    """Whether the journal could be read."""
    counts: dict[EntryState, int]
    """The number of deferred requests, by state."""
    entries: list[Deferred]
    """The newest deferred requests and batches, the newest first."""


@dataclass(slots=True)
class Worker:
    """One of several processes that serve together."""

    __pydantic_config__: ClassVar = _DESCRIBED
    number: int
    """From 1; also in the lines of the log, as `worker`."""
    pid: int | None
    """The number that the system gave to the process; null where none serves under this number now."""
    uptime: float
    requests: int
    """Requests that it runs."""
    connections: int
    """Connections of its clients."""


@dataclass(slots=True)
class Status:
    """The proxy at one moment."""

    __pydantic_config__: ClassVar = _DESCRIBED
    at: str
    version: str
    uptime: float
    ready: Readiness
    config: Config
    backends: list[Backend]
    queue: Queue
    requests: list[Request]
    """The running requests, the oldest first."""
    limits: list[Limit]
    """The limits in use, the fullest first."""
    journal: Journal
    bodies: Bodies
    log_lines_dropped: int
    """Log lines dropped since the start, because nobody read them in time."""
    recent: list[Request] | None = field(default=None)
    """The requests that ended last, the latest first; null in ticks."""
    workers: list[Worker] = field(default_factory=list)
    """The processes that serve together; empty where it is one."""


@dataclass(slots=True)
class Change:
    """A change of a backend's state."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    before: State
    state: State
    reason: str


@dataclass(slots=True)
class Reloaded:
    """The result of loading the policy file again."""

    __pydantic_config__: ClassVar = _DESCRIBED
    generation: int
    problems: list[str]
    """Why the file was refused; empty where it is in force now."""
    restart: list[str]
    """Settings that changed and need a restart."""


@dataclass(slots=True)
class Step:
    """What one plugin would do with the request."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    """The plugin's name in the policy file; `dispatch` is the end of the chain."""
    verdict: Literal["pass", "refuse", "change", "wait", "skip", "off", "silent"]
    """`off`: the caller's policy turns the plugin off. `silent`: the plugin does not explain itself."""
    text: str


@dataclass(slots=True)
class Account:
    """What would happen to a request."""

    __pydantic_config__: ClassVar = _DESCRIBED
    route: str | None
    kind: str | None
    """The class of the route."""
    model: str | None
    """The canonical short name of the model."""
    identity: str | None
    tenant: str | None
    policy: str | None
    backend: str | None
    """The backend that would get the request now."""
    steps: list[Step]
    """The plugins that the request would reach, the outermost first."""
