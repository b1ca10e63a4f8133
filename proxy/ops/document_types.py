"""The JSON documents under ``/-/``. Their schemas in the OpenAPI document are made from these classes.

Times of day are RFC 3339 in UTC; all other times are seconds, counted from the document's `at`, so that it does not
matter whether the reader's clock is right.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict

from proxy.kernel.errors import Outcome
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
    """Whether requests can be served."""

    __pydantic_config__: ClassVar = _DESCRIBED
    ready: bool
    reason: str
    """Why, or why not."""


@dataclass(slots=True)
class Done:
    """Something was done."""

    __pydantic_config__: ClassVar = _DESCRIBED
    done: str
    """What, in a sentence."""


@dataclass(slots=True)
class Model:
    """A model in the memory of a backend."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    loading: bool
    """A request of ours is making the backend load it."""
    vram: int
    """Bytes; 0 until the backend was asked."""
    context_length: int | None
    """Tokens it was loaded for."""
    expires: str | None
    """When it leaves the memory unless it is used, as the backend says."""
    active: int
    """Our requests that use it."""


@dataclass(slots=True)
class Backend:
    """One Ollama host."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    url: str
    """As the policy file has it; what came from the environment is not resolved."""
    state: State
    reason: str
    """What put it into that state."""
    since: float
    """For how long it has been in that state, seconds; 0 where it never changed."""
    version: str | None
    """Of Ollama."""
    seen: float | None
    """Seconds since it last answered when it was asked how it is."""
    slots: int | None
    """Requests it may run at once; null for no bound."""
    active: int
    """Requests it runs for us."""
    weight: float
    tokens_per_second: float
    """Of all running answers together; a streamed chunk counts as a token."""
    first_byte: float | None
    """Trend of the seconds until a warm model's first byte."""
    last_error: str | None
    resident: list[Model]
    """Models in its memory."""
    models: list[str] | None
    """Models it has; null where that is not known, and in ticks."""


@dataclass(slots=True, kw_only=True)
class Request:
    """A request, running or over."""

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
    """The route's pattern; null where Ollama has none."""
    model: str | None
    backend: str | None
    reason: str | None
    """Why that backend."""
    attempts: int
    generation: int
    """Of the configuration it runs under."""
    started: str
    seconds: float
    """Since it came; of one that is over, until its end."""
    queued: float
    """Seconds in the queue, so far."""
    queue_position: int | None
    """The place in line that it had at first; null where it did not wait."""
    first_byte: float | None
    """Seconds from its coming to the first byte of its answer."""
    chunks: int
    """Chunks sent to the client; of a stream each is about a token."""
    tokens_in: int | None
    """Of the prompt; null while it runs."""
    tokens_out: int | None
    """Generated; null while it runs."""
    tokens_per_second: float | None
    """Since the first byte; while it runs, by its chunks."""
    status: int | None
    """HTTP status of its answer; null before there is one."""
    outcome: Outcome | None
    """How it ended; null while it runs."""
    error_code: str | None
    error: str | None


@dataclass(slots=True)
class Tenant:
    """Somebody's part of the queue."""

    __pydantic_config__: ClassVar = _DESCRIBED
    tenant: str
    waiting: int


@dataclass(slots=True)
class Queue:
    """Requests that wait for a slot."""

    __pydantic_config__: ClassVar = _DESCRIBED
    waiting: int
    oldest: float
    """Seconds that who came first has waited."""
    tenants: list[Tenant]


@dataclass(slots=True)
class Limit:
    """One counter that something was counted on lately."""

    __pydantic_config__: ClassVar = _DESCRIBED
    limit: str
    """The entry's name in the policy file and, where it has several limits, the limit's."""
    whom: str
    """Who is counted: ``identity=alice``."""
    unit: Unit
    window: str | None
    """``minute``, ``day``, ``10s``; null for running requests."""
    used: int
    amount: int
    resets_in: float
    """Seconds until there is more room."""


@dataclass(slots=True)
class Bodies:
    """Memory that request bodies take, bytes."""

    __pydantic_config__: ClassVar = _DESCRIBED
    held: int
    total: int
    """What they may take together."""
    callers: int
    """How many callers they are of."""
    largest: int
    """What the bodies of the one caller take who holds most."""


@dataclass(slots=True)
class Config:
    """The configuration in force."""

    __pydantic_config__: ClassVar = _DESCRIBED
    file: str
    generation: int
    """Counts the files that were put in force, from 1."""
    age: float
    """Seconds it has been in force."""
    chain: str
    problems: list[str]
    """Why the file was refused when it was last loaded; it is not in force then."""
    restart: list[str]
    """Settings that differ in the file and need a restart."""


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
    """Running requests, the oldest first."""
    limits: list[Limit]
    """The fullest first."""
    bodies: Bodies
    log_lines_dropped: int
    """Since the start: nobody read them in time."""
    recent: list[Request] | None = field(default=None)
    """Requests that ended lately, the latest first; null in ticks."""


@dataclass(slots=True)
class Change:
    """A backend changed its state."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    before: State
    state: State
    reason: str


@dataclass(slots=True)
class Reloaded:
    """What came of loading the policy file again."""

    __pydantic_config__: ClassVar = _DESCRIBED
    generation: int
    problems: list[str]
    """Empty where the file is in force now."""
    restart: list[str]
    """Settings that changed and need a restart."""


@dataclass(slots=True)
class Step:
    """What one plugin says."""

    __pydantic_config__: ClassVar = _DESCRIBED
    name: str
    """Its name in the policy file; `dispatch` is the end of the chain."""
    verdict: Literal["pass", "refuse", "change", "wait", "skip", "off", "silent"]
    """`off`: the caller's policy turns it off. `silent`: it does not explain itself."""
    text: str


@dataclass(slots=True)
class Account:
    """What would happen to a request."""

    __pydantic_config__: ClassVar = _DESCRIBED
    route: str | None
    kind: str | None
    """The route's class."""
    model: str | None
    """By its canonical short name."""
    identity: str | None
    tenant: str | None
    policy: str | None
    backend: str | None
    """Where it would be sent now."""
    steps: list[Step]
    """As far as it would get, the outermost plugin first."""
