"""The journal as operators see it: states, never words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, get_args

from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import journal_unavailable
from proxy.kernel.errors import Refused
from proxy.kernel.journal import OVER, Entry, Journal, JournalFull, Kind, Query, State
from proxy.kernel.log_lines import stamp
from proxy.kernel.store import StoreUnavailable
from proxy.ops import document_types as doc

SHOWN: Final = 50
"""Entries in a status."""
MOST: Final = 1000
"""Entries in a list."""
LISTED: Final[tuple[Kind, ...]] = ("request", "batch")
STATES: Final[tuple[State, ...]] = get_args(State)


class StoredEntries:
    """Reads the journal for the ops routes.

    Attributes:
        counted: requests by state, as they were when they were last counted.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.counted: Mapping[State, int] = {}

    async def count(self) -> Mapping[State, int]:
        """Count the requests by state; what was counted last where the journal cannot be reached."""
        try:
            counts = await self._journal.counts()
        except StoreUnavailable:
            return self.counted
        self.counted = {state: counts.get(state, 0) for state in STATES}
        return self.counted

    async def view(self) -> doc.Journal:
        """Return what a status says of the journal."""
        journal = self._journal
        try:
            found = await journal.entries(Query(kinds=LISTED, limit=SHOWN))
        except StoreUnavailable:
            return doc.Journal(journal.name, journal.durable, False, dict(self.counted), [])
        return doc.Journal(journal.name, journal.durable, True, dict(await self.count()), [*map(entry_of, found)])

    async def find(self, parameters: Mapping[str, str]) -> doc.DeferredList:
        """Return the entries that a request's query parameters ask for; raises Refused."""
        limit = parameters.get("limit", "100")
        if not limit.isdecimal() or len(limit) > 6 or not 1 <= int(limit) <= MOST:
            raise Refused(400, f"limit is a number from 1 to {MOST}")
        asked = Query(
            kinds=LISTED,
            states=states_of(parameters.get("state", "")),
            parent=parameters.get("parent") or None,
            after=parameters.get("after") or None,
            limit=int(limit),
        )
        with reached():
            found = await self._journal.entries(asked)
        return doc.DeferredList([*map(entry_of, found)], dict(await self.count()))

    async def get(self, name: str) -> doc.Deferred:
        """Return one entry; raises Refused."""
        with reached():
            entry = await self._journal.get(name)
        if entry is None:
            raise unknown()
        return entry_of(entry)


@contextmanager
def reached() -> Iterator[None]:
    """Raise Refused (503) where the journal cannot be reached."""
    try:
        yield
    except (StoreUnavailable, JournalFull) as error:
        raise journal_unavailable() from error


def unknown() -> Refused:
    """Return the refusal for an id that no entry has."""
    return Refused(404, "the journal has no entry of that id", code=codes.UNKNOWN_REQUEST)


def states_of(text: str, *, over: bool = False) -> tuple[State, ...]:
    """Return the states that a text names with commas between them; raises Refused.

    With `over`, only those in which nothing more happens are taken, and at least one is needed.
    """
    allowed = tuple(state for state in STATES if not over or state in OVER)
    named = [word for word in text.split(",") if word]
    states = tuple(state for state in allowed if state in named)
    if len(states) != len(set(named)) or (over and not states):
        raise Refused(400, f"state is one or several of {', '.join(allowed)}, with commas between them")
    return states


def entry_of(entry: Entry) -> doc.Deferred:
    """Return an entry without anybody's words."""
    caller = entry.caller
    return doc.Deferred(
        id=entry.id,
        kind=entry.kind,
        state=entry.state,
        identity=caller.identity,
        tenant=caller.tenant,
        policy=caller.policy,
        client=caller.client,
        method=entry.method,
        route=entry.path,
        model=entry.model,
        batch=entry.parent,
        priority=entry.priority,
        attempts=entry.attempts,
        position=entry.position,
        created=stamp(entry.created_at),
        started=_stamp(entry.started_at),
        ended=_stamp(entry.ended_at),
        expires=stamp(entry.expires_at),
        status=entry.status,
        recorded=entry.recorded,
        error_code=entry.error.partition(":")[0] if entry.error is not None else None,
        tokens_in=entry.usage.get("tokens_in"),
        tokens_out=entry.usage.get("tokens_out"),
    )


def _stamp(seconds: float | None) -> str | None:
    return None if seconds is None else stamp(seconds)
