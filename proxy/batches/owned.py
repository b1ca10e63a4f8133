"""What the callers of files and batches have in common: their own entries, pages of them, and room for another one."""

from collections.abc import Sequence
from typing import Final, TypeVar

from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import stored_caller_of
from proxy.kernel.batch_terms import BatchTerms, batch_terms
from proxy.kernel.errors import Flavor, Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, JournalFull, Kind, NewEntry, Query
from proxy.kernel.own_entry import own_entry
from proxy.kernel.routes import Match

MOST_LISTED: Final = 1000
"""Batches, or files, of a caller that are kept and listed."""
LONGEST_ID: Final = 128

T = TypeVar("T")


class Owned:
    """Finds and adds the entries of callers.

    Args:
        journal: where they are.
        flavor: the API whose entries it finds.
    """

    def __init__(self, journal: Journal, flavor: Flavor) -> None:
        self.journal = journal
        self.flavor = flavor

    async def find(self, exchange: Exchange, name: str, kind: Kind) -> Entry | None:
        """Return the caller's own entry of that id; None where there is none."""
        fitting = name if 0 < len(name) <= LONGEST_ID else None
        entry = await own_entry(self.journal, stored_caller_of(exchange).owner, fitting, kind)
        return entry if entry is not None and entry.flavor == self.flavor else None

    async def all_of(self, exchange: Exchange, kind: Kind) -> list[Entry]:
        """Return the caller's own entries, newest first."""
        asked = Query(owner=stored_caller_of(exchange).owner, kinds=(kind,), limit=2 * MOST_LISTED)
        found = await self.journal.entries(asked)
        return [entry for entry in found if entry.flavor == self.flavor and not entry.meta.get("hidden")]

    async def check_room(self, exchange: Exchange, terms: BatchTerms) -> None:
        """Raise Refused (429) where the caller has as many batches as it may."""
        asked = Query(owner=stored_caller_of(exchange).owner, kinds=("batch",), limit=MOST_LISTED)
        found = await self.journal.entries(asked)
        running = sum(not entry.over for entry in found)
        if running >= terms.bounds.open or len(found) >= MOST_LISTED:
            raise Refused(
                429,
                f"{running} batches of yours are open, and {len(found)} are kept; {terms.bounds.open} may be open, and "
                f"{MOST_LISTED} kept: wait until one has ended, or cancel one",
                code=codes.TOO_MANY_BATCHES,
                headers={"retry-after": "60"},
            )

    async def add(self, new: NewEntry) -> Entry:
        """Put an entry into the journal; raises Refused (507)."""
        try:
            return await self.journal.add(new)
        except JournalFull as full:
            raise Refused(507, f"nothing more can be kept now: {full}", code=codes.JOURNAL_FULL) from None


def terms_for(exchange: Exchange) -> BatchTerms:
    """Return the terms on which the caller may keep files and batches; raises Refused (403)."""
    terms = batch_terms(exchange.scope)
    if terms is None:
        raise Refused(403, "your policy keeps no requests, and so no batches", code=codes.BATCHES_NOT_ALLOWED)
    return terms


def named_in_path(exchange: Exchange) -> str:
    """Return the id that the path names."""
    match = exchange.match
    return (match.argument or "") if isinstance(match, Match) else ""


def behind(entries: Sequence[Entry], id: str | None) -> Sequence[Entry]:
    """Return the entries behind the one of that id; all of them where it is None, none where it is not among them."""
    if id is None:
        return entries
    return entries[next((place + 1 for place, entry in enumerate(entries) if entry.id == id), len(entries)) :]
