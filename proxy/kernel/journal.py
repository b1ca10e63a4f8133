"""The contract of the journal: the requests that outlive their connection, and what was answered to them.

An *entry* is one request, or a document that such requests belong to: an uploaded file, a batch. Its *record* is the
answer, byte for byte, and can be read while it grows. Who runs an entry holds a *claim* on it, with a number (the
fence) that grows with every claim: what a stale owner writes is refused with `Fenced`. So an entry may run more than
once, and its record is written by one owner at a time.

The homes are in ``proxy/journal/``: memory, a SQLite file, Redis Streams.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

State = Literal["queued", "running", "completed", "failed", "cancelled", "expired", "dead"]
Kind = Literal["request", "live", "file", "batch"]
"""``request``: runs when a slot is free. ``live``: recorded while its own client is connected, and never claimed.
``file`` and ``batch``: documents, never claimed."""

OVER: Final[frozenset[State]] = frozenset({"completed", "failed", "cancelled", "expired", "dead"})
"""The states in which nothing more happens to an entry by itself; all but ``queued`` and ``running``."""


ATTACHED: Final = "attached"
"""The member of the meta of a ``live`` entry that is true once somebody came to read on, though no byte was there."""


BEAT: Final = "beat"
"""The member of the meta of a ``live`` entry that changes as long as somebody records it, though it does not grow."""


class JournalFull(Exception):
    """A bound of the journal is reached.

    Attributes:
        bound: ``identity`` (open entries of one identity), ``entries`` (of all), or ``bytes`` (the home is full).
    """

    def __init__(self, bound: Literal["identity", "entries", "bytes"], message: str) -> None:
        super().__init__(message)
        self.bound = bound


class Fenced(Exception):
    """The claim is no longer the latest: another owner has the entry, or it was cancelled or deleted."""


@dataclass(frozen=True, slots=True)
class StoredCaller:
    """Who sent a request, as `auth` found it then; `auth` looks again when the request runs.

    Attributes:
        method: how the caller was known: ``key``, ``jwt``, ``introspection``, ``ollama_key``, ``certificate``,
            ``address``, ``anonymous``; ``none`` where no plugin authenticates.
        client: the client's address.
    """

    identity: str | None = None
    tenant: str | None = None
    policy: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    method: str = "none"
    client: str = ""
    end_user: str | None = None

    @property
    def owner(self) -> str:
        """The key of who may read the entry: the identity, or for a caller without one the address."""
        return f"by {self.identity}" if self.identity is not None else f"at {self.client}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """What is put into the journal. Times are seconds since 1970.

    Attributes:
        id: 32 hexadecimal digits from a secure source, behind an optional prefix such as ``resp_``; of a ``live``
            entry the id of its request, which has 16.
        body: the request's body as the client sent it, decoded of its content encoding; for a file, its contents.
        headers: the request's header fields that the run needs; never credentials.
        parent: the batch that the entry belongs to; None for none.
        cost: the tokens that it is expected to take, for the order of turns.
        weight: the tenant's share of the turns.
        priority: entries of a higher one go first.
        expires_at: when it is dropped, whatever its state; an entry that has not run by then is ``expired``.
        idempotency_key: at most one open or kept entry of its owner has it; None for none.
        most_per_owner: open entries of kind ``request`` that its owner may have, this one included; None for no bound.
        most: open entries of kind ``request`` in all.
        most_answer: bytes of answer that may be recorded.
        meta: small facts of those who made it (a batch's counts, a file's name, a webhook's address), as JSON.
    """

    id: str
    kind: Kind
    caller: StoredCaller
    method: str = "POST"
    path: str = ""
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    flavor: str = "ollama"
    model: str | None = None
    parent: str | None = None
    cost: int = 1
    weight: float = 1.0
    priority: int = 0
    created_at: float = 0.0
    expires_at: float = 0.0
    idempotency_key: str | None = None
    most_per_owner: int | None = None
    most: int | None = None
    most_answer: int = 16 * 1024 * 1024
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry as it is now, without its body and its record.

    Attributes:
        attempts: how often it was claimed; a release that does not count gives one back.
        fence: the number of the latest claim.
        status: the status of the answer; None before it begins.
        answer_headers: the header fields of the answer.
        recorded: bytes of the record so far.
        read: whether a byte of the record of this attempt was read by anybody.
        error: why it failed, as ``code: message``; None where it did not.
        usage: ``tokens_in`` and ``tokens_out``, as far as known.
        position: how many queued entries of its tenant go before it; None where it is not queued, or unknown.
    """

    id: str
    kind: Kind
    state: State
    caller: StoredCaller
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    flavor: str
    model: str | None
    parent: str | None
    cost: int
    priority: int
    created_at: float
    expires_at: float
    started_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    fence: int = 0
    status: int | None = None
    answer_headers: tuple[tuple[str, str], ...] = ()
    recorded: int = 0
    read: bool = False
    error: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    position: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Return whether nothing more happens to the entry by itself."""
        return self.state in OVER


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run an entry, until its owner stops to beat or somebody cancels it.

    Attributes:
        mark: tells two claims of one number apart: a home that has forgotten its last moments gives a number again.
    """

    entry: Entry
    body: bytes
    fence: int
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which entries to list, newest first. None stands for any.

    Attributes:
        owner: see `StoredCaller.owner`.
        after: the id behind which the list begins.
    """

    owner: str | None = None
    kinds: tuple[Kind, ...] = ()
    states: tuple[State, ...] = ()
    parent: str | None = None
    after: str | None = None
    limit: int = 100


class Journal(ABC):
    """The journal of one home. Each method raises `proxy.kernel.store.StoreUnavailable` where the home fails.

    Attributes:
        durable: whether an entry survives the end of the process.
        shared: whether other processes have the same entries.
        name: the home for people: ``memory``, ``sqlite:state.db``, the URL of a Redis without credentials.
    """

    durable: bool
    shared: bool
    name: str

    @abstractmethod
    async def connect(self) -> None:
        """Open the home. In a home that one process has to itself, entries left ``running`` are taken up again."""

    @abstractmethod
    async def aclose(self) -> None:
        """Write what is left, and close the home."""

    # Entries

    @abstractmethod
    async def add(self, new: NewEntry) -> Entry:
        """Put an entry in; when this returns, the home has it as safely as it can.

        A ``request`` is ``queued``, a ``live`` one ``running`` with fence 1; a ``file`` or ``batch`` is ``queued``.
        Where its owner has an entry with the same idempotency key, returns that one, which has another id, and adds
        nothing. Raises JournalFull.
        """

    @abstractmethod
    async def get(self, id: str) -> Entry | None:
        """Return an entry; None where there is none, or it has expired and is gone."""

    @abstractmethod
    async def body(self, id: str) -> bytes | None:
        """Return the body of an entry; None where there is no such entry."""

    @abstractmethod
    async def entries(self, query: Query) -> Sequence[Entry]:
        """List entries, newest first."""

    @abstractmethod
    async def counts(self) -> Mapping[State, int]:
        """Return the number of entries of kind ``request``, by state."""

    @abstractmethod
    async def children(self, parent: str) -> Mapping[State, int]:
        """Return the number of entries of a batch, by state."""

    @abstractmethod
    async def set_meta(self, id: str, changes: Mapping[str, Any], *, state: State | None = None) -> Entry | None:
        """Merge `changes` into the meta of an entry, and set the state of a ``file`` or ``batch`` where given.

        Returns the entry as it is then; None where there is none. An entry that is over keeps its state.
        """

    @abstractmethod
    async def cancel(self, id: str, reason: str) -> Entry | None:
        """End an entry as ``cancelled``; its owner's next write is refused. One that is over stays as it is.

        Returns the entry as it is then; None where there is none. The children of a batch are cancelled too.
        """

    @abstractmethod
    async def retry(self, id: str) -> Entry | None:
        """Queue an entry that is ``dead``, ``failed``, ``cancelled`` or ``expired`` again, with its attempts at 0."""

    @abstractmethod
    async def delete(self, id: str) -> bool:
        """Remove an entry with its body and record, whatever its state; return whether there was one."""

    @abstractmethod
    async def purge(self, states: Sequence[State]) -> int:
        """Delete the entries of kind ``request`` in these states, which are over; return how many."""

    # Running

    @abstractmethod
    async def claim(self, owner: str, *, attempts: int, lost_after: float) -> Claim | None:
        """Claim the entry whose turn it is; None where nothing waits.

        Tenants take turns by cost and weight, within a priority; see `NewEntry`. Entries whose owner has not beaten
        for `lost_after` seconds go first: where nobody has read a byte of the broken attempt, its record begins anew;
        otherwise the entry is ended as ``failed`` with ``owner_lost``. An entry that was claimed `attempts` times
        already is ended as ``dead``. `owner` names the process.
        """

    @abstractmethod
    async def beat(self, claims: Sequence[Claim]) -> Sequence[str]:
        """Say that these claims are still worked on; return the ids of those that are fenced meanwhile."""

    @abstractmethod
    async def begin(self, claim: Claim, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Note how the answer begins; raises Fenced."""

    @abstractmethod
    async def append(self, claim: Claim, data: bytes, *, at: int | None = None) -> int:
        """Append to the record; return its length then. Raises Fenced, or JournalFull beyond `most_answer`.

        Args:
            claim: the right to write.
            data: the bytes.
            at: the length of the record before. So a call that failed can be made again: a record that ends with `data`
                already stays as it is, and so it does where the first call arrives after the second one. A record of
                any other length has lost bytes, and the claim is refused as fenced. None: whatever the length is.
        """

    @abstractmethod
    async def finish(
        self,
        claim: Claim,
        state: State,
        *,
        error: str | None = None,
        usage: Mapping[str, int] | None = None,
        at: int | None = None,
    ) -> Entry:
        """End the entry. Every reader that waits is woken.

        With `at` the record must have so many bytes: a home that lost a part of it does not call the rest complete.
        Raises Fenced.
        """

    @abstractmethod
    async def release(self, claim: Claim, *, again_after: float = 0.0, counts: bool = True) -> None:
        """Queue the entry again, with a new record, not before `again_after` seconds; raises Fenced.

        `counts` says whether the attempt counts.
        """

    @abstractmethod
    async def wait_for_work(self, seconds: float) -> None:
        """Return when an entry may be there to claim, or after `seconds`; it may return for nothing."""

    # Reading

    @abstractmethod
    async def read(self, id: str, offset: int, limit: int) -> bytes | None:
        """Return at most `limit` bytes of the record from `offset`; empty beyond its end; None without such an entry.

        A byte that was returned counts as read; see `claim`.
        """

    @abstractmethod
    async def wait_for_change(self, id: str, recorded: int, seconds: float) -> Entry | None:
        """Return the entry when its record is longer than `recorded`, or it is over, or after `seconds`."""
