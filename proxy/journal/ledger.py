"""A shelf with what is known of its rows by heart: whose turn it is, what runs, what is open, what expires."""

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from heapq import heappop, heappush
from typing import Final

from proxy.journal.shelf import Row, Shelf
from proxy.journal.turns import Turn, Turns
from proxy.kernel.clock import Clock

EXPIRED_FOR: Final = 3600.0
"""Seconds for which an entry that did not run in time is listed as ``expired``."""


class Ledger:
    """The rows of a shelf. Every change of a row goes through here, so that what is derived from them stays true.

    Attributes:
        turns: the requests that are queued.
        beats: when the owner of a running request was last heard, by id, in monotonic seconds.
        charged: what the claims of running requests have charged their tenants, by id.
    """

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self.shelf = shelf
        self.clock = clock
        self.turns = Turns()
        self.beats: dict[str, float] = {}
        self.charged: dict[str, Turn] = {}
        self._changed: set[str] = set()
        self._undo: list[Callable[[], None]] = []
        """Undoes what was changed here since it was last kept, the last one first."""
        self._number = 0
        self._open: Counter[str] = Counter()
        self._expiries: list[tuple[float, str]] = []

    @property
    def open(self) -> int:
        """Return the number of open requests."""
        return len(self.turns) + len(self.beats)

    def open_of(self, owner: str) -> int:
        """Return the number of open requests of an owner."""
        return self._open[owner]

    def next_number(self) -> int:
        """Return a number that is above those of all rows."""
        self._number += 1
        return self._number

    def reload(self) -> None:
        """Learn all rows of a shelf that has been opened."""
        self.beats, self.charged = {}, {}
        self.turns = Turns()
        self._open.clear()
        self._expiries = []
        self._undo.clear()
        for row in self.shelf.rows():
            self._number = max(self._number, row.number)
            heappush(self._expiries, (row.entry.expires_at, row.entry.id))
            self._note(row, None)

    def keep(self) -> Collection[str]:
        """Keep all changes: the shelf has them for good. Return the ids of the entries that have changed."""
        self._undo.clear()
        changed, self._changed = self._changed, set()
        return changed

    def take_back(self) -> None:
        """Undo all changes since the last `keep`: the shelf has taken them back. It is not asked for its rows."""
        while self._undo:
            self._undo.pop()()
        self._changed.clear()

    def next_turn(self) -> Turn | None:
        """Take out the entry whose turn it is; see `Turns.next`."""
        turn = self.turns.next(self.clock.time())
        if turn is not None:
            self._undo.append(partial(self._give_back, turn))
        return turn

    def get(self, id: str) -> Row | None:
        """Return a row as it is now: None where it has expired and is gone, although it may still be stored."""
        row = self.shelf.get(id)
        return self.now(row) if row is not None else None

    def now(self, row: Row) -> Row | None:
        """Return a stored row as it is now; None where it is gone."""
        entry, now = row.entry, self.clock.time()
        if entry.expires_at > now:
            return row
        if entry.kind == "request" and entry.state == "queued" and now < entry.expires_at + EXPIRED_FOR:
            ended = entry.expires_at
            return row.but(state="expired", ended_at=ended, expires_at=ended + EXPIRED_FOR, ready_at=0.0)
        return None

    def save(self, row: Row) -> Row:
        """Store a row, new or changed, and return it."""
        name = row.entry.id
        before, beat = self.shelf.get(name), self.beats.get(name)
        self.shelf.put(row)
        if before is not None:
            self._unnote(before)
        if before is None or before.entry.expires_at != row.entry.expires_at:
            heappush(self._expiries, (row.entry.expires_at, name))
        self._note(row, beat)
        self._note_change(name, before, row, beat)
        return row

    def anew(self, row: Row) -> Row:
        """Empty the record of a row, and return the row without an answer, to be saved."""
        if row.entry.recorded:
            self.shelf.clear(row.entry.id)
        return row.but(status=None, answer_headers=(), recorded=0, read=False)

    def drop(self, row: Row) -> None:
        """Remove a row with its body and record."""
        name = row.entry.id
        beat = self.beats.get(name)
        self.shelf.remove(name)
        self._unnote(row)
        self._note_change(name, row, None, beat)

    def sweep(self) -> None:
        """Remove the rows that have expired."""
        now = self.clock.time()
        while self._expiries and self._expiries[0][0] <= now:
            at, name = self._expiries[0]
            row = self.shelf.get(name)
            if row is not None and row.entry.expires_at == at:
                after = self.now(row)
                if after is None:
                    self.drop(row)
                else:
                    self.save(after)  # which has its later expiry noted
            heappop(self._expiries)

    def _note_change(self, name: str, before: Row | None, after: Row | None, beat: float | None) -> None:
        if name not in self.beats:
            self.charged.pop(name, None)
        self._changed.add(name)
        self._undo.append(partial(self._put_back, before, after, beat))

    def _put_back(self, before: Row | None, after: Row | None, beat: float | None) -> None:
        """Know a row again as it was before a change."""
        if after is not None:
            self._unnote(after)
        if before is not None:
            self._note(before, beat)
            if after is None or after.entry.expires_at != before.entry.expires_at:
                heappush(self._expiries, (before.entry.expires_at, before.entry.id))

    def _give_back(self, turn: Turn) -> None:
        self.turns.add(turn)
        self.turns.give_back(turn)

    def _note(self, row: Row, beat: float | None) -> None:
        entry = row.entry
        if entry.kind != "request" or entry.over:
            return
        self._open[entry.caller.owner] += 1
        if entry.state == "running":
            self.beats[entry.id] = self.clock.monotonic() if beat is None else beat
        else:
            self.turns.add(turn_of(row))

    def _unnote(self, row: Row) -> None:
        entry = row.entry
        if entry.kind != "request" or entry.over:
            return
        self._open[entry.caller.owner] -= 1
        if not self._open[entry.caller.owner]:
            del self._open[entry.caller.owner]
        self.beats.pop(entry.id, None)
        self.turns.remove(entry.id)


def turn_of(row: Row) -> Turn:
    """Return the place of a queued entry. A caller without a tenant is a tenant of its own."""
    entry = row.entry
    tenant = entry.caller.tenant
    return Turn(
        id=entry.id,
        tenant=f"of {tenant}" if tenant is not None else entry.caller.owner,
        number=row.number,
        priority=entry.priority,
        cost=entry.cost,
        weight=row.weight,
        ready_at=row.ready_at,
    )
