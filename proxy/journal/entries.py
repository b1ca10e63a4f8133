"""The rules of the journal about entries, for a home that one process has to itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from proxy.journal.ledger import Ledger
from proxy.journal.shelf import Row
from proxy.kernel.journal import OVER, Entry, JournalFull, NewEntry, Query, State


class Entries:
    """Adds, shows, ends and removes entries; see `proxy.kernel.journal.Journal` for what each method promises."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._shelf = ledger.shelf

    def add(self, new: NewEntry) -> Entry:
        """Put an entry in, or return the one with its idempotency key."""
        ledger, owner = self._ledger, new.caller.owner
        ledger.sweep()
        if new.idempotency_key is not None:
            known = self._shelf.by_key(owner, new.idempotency_key)
            if known is not None:
                return self._shown(known)
        if self._shelf.get(new.id) is not None:
            raise ValueError("the journal has an entry with this id")
        if new.kind == "request":
            self._check_bounds(new)
        now = ledger.clock.time()
        live = new.kind == "live"
        entry = Entry(
            id=new.id,
            kind=new.kind,
            state="running" if live else "queued",
            caller=new.caller,
            method=new.method,
            path=new.path,
            query=new.query,
            headers=new.headers,
            flavor=new.flavor,
            model=new.model,
            parent=new.parent,
            cost=new.cost,
            priority=new.priority,
            created_at=new.created_at or now,
            expires_at=new.expires_at,
            started_at=now if live else None,
            attempts=int(live),
            fence=int(live),
            meta=dict(new.meta),
        )
        row = Row(entry, ledger.next_number(), new.weight, new.most_answer, new.idempotency_key)
        row = ledger.save(row)
        try:
            self._shelf.put_body(new.id, new.body)
        except JournalFull:
            ledger.drop(row)
            raise
        return self._shown(row)

    def get(self, id: str) -> Entry | None:
        """Return an entry."""
        row = self._ledger.get(id)
        return self._shown(row) if row is not None else None

    def body(self, id: str) -> bytes | None:
        """Return the body of an entry."""
        return self._shelf.body(id) if self._ledger.get(id) is not None else None

    def find(self, query: Query) -> Sequence[Entry]:
        """List entries."""
        return [self._shown(row) for row in self._shelf.find(query) if self._ledger.now(row) is not None]

    def count(self, parent: str | None) -> Mapping[State, int]:
        """Count the entries of a batch, or with None those of kind ``request``."""
        counts: dict[State, int] = self._shelf.count(parent)  # type: ignore[assignment]  # the states that we stored
        return counts

    def set_meta(self, id: str, changes: Mapping[str, Any], state: State | None) -> Entry | None:
        """Change the meta of an entry, and the state of a file or a batch where given."""
        row = self._ledger.get(id)
        if row is None:
            return None
        entry = row.entry
        fields: dict[str, Any] = {"meta": {**entry.meta, **changes}}
        if state is not None and entry.kind in ("file", "batch") and not entry.over:
            now = self._ledger.clock.time()
            fields["state"] = state
            fields["started_at"] = entry.started_at or (now if state == "running" else None)
            fields["ended_at"] = now if state in OVER else None
        return self._shown(self._ledger.save(row.but(**fields)))

    def cancel(self, id: str, reason: str) -> Entry | None:
        """End an entry, and the entries of a batch."""
        row = self._ledger.get(id)
        if row is None:
            return None
        if not row.entry.over:
            row = self._cancel(row, reason)
        if row.entry.kind == "batch":
            for child in self._shelf.find(Query(parent=id, states=("queued", "running"), limit=2**31)):
                if self._ledger.now(child) is child:
                    self._cancel(child, reason)
        return self._shown(row)

    def retry(self, id: str) -> Entry | None:
        """Queue an entry again that has not completed."""
        row = self._ledger.get(id)
        if row is None:
            return None
        entry = row.entry
        if entry.kind != "request" or entry.state not in ("dead", "failed", "cancelled", "expired"):
            return self._shown(row)
        lasts = max(entry.expires_at - (entry.ended_at or entry.expires_at), 60.0)
        return self._shown(
            self._ledger.save(
                self._ledger.anew(row).but(
                    state="queued",
                    attempts=0,
                    ended_at=None,
                    error=None,
                    usage={},
                    expires_at=max(entry.expires_at, self._ledger.clock.time() + lasts),
                    ready_at=0.0,
                )
            )
        )

    def delete(self, id: str) -> bool:
        """Remove an entry."""
        row = self._shelf.get(id)
        if row is None:
            return False
        known = self._ledger.now(row) is not None
        self._ledger.drop(row)
        return known

    def purge(self, states: Sequence[State]) -> int:
        """Remove the requests in these states."""
        self._ledger.sweep()
        over = tuple(state for state in states if state in OVER)
        found = self._shelf.find(Query(kinds=("request",), states=over, limit=2**31)) if over else ()
        for row in found:
            self._ledger.drop(row)
        return len(found)

    def _check_bounds(self, new: NewEntry) -> None:
        owned = self._ledger.open_of(new.caller.owner)
        if new.most_per_owner is not None and owned >= new.most_per_owner:
            raise JournalFull("identity", f"the caller has {owned} open requests, and may have {new.most_per_owner}")
        if new.most is not None and self._ledger.open >= new.most:
            raise JournalFull("entries", f"{self._ledger.open} requests are open, and {new.most} may be")

    def _cancel(self, row: Row, reason: str) -> Row:
        now = self._ledger.clock.time()
        return self._ledger.save(row.but(state="cancelled", ended_at=now, error=f"cancelled: {reason}", ready_at=0.0))

    def _shown(self, row: Row) -> Entry:
        entry = (self._ledger.now(row) or row).entry
        if entry.kind != "request" or entry.state != "queued":
            return entry
        return replace(entry, position=self._ledger.turns.position(entry.id))
