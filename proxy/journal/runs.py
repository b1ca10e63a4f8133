"""The rules of the journal about running entries, for a home that one process has to itself."""

from collections.abc import Mapping, Sequence
from typing import Final

from proxy.journal.ledger import Ledger
from proxy.journal.shelf import Row
from proxy.kernel.journal import OVER, Claim, Entry, Fenced, JournalFull, State

OWNER_LOST: Final = "owner_lost: the proxy that ran the request is gone, and a part of its answer was read"
LIVE_LOST: Final = "owner_lost: the proxy that recorded the answer is gone"
TOO_OFTEN: Final = "dead: the request was begun {} times, and was never answered"


class Runs:
    """Claims entries, and writes their records; see `proxy.kernel.journal.Journal` for what each method promises."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._shelf = ledger.shelf

    def take_up(self) -> None:
        """Go on after a start: what was left running has no owner any more."""
        for row in list(self._shelf.rows()):
            if row.entry.state != "running" or row.entry.kind not in ("request", "live"):
                continue
            if row.entry.kind == "live":
                self._end(row, "failed", LIVE_LOST)
            elif row.entry.read:
                self._end(row, "failed", OWNER_LOST)
            else:
                self._ledger.save(self._ledger.anew(row).but(state="queued"))

    def claim(self, attempts: int, lost_after: float) -> Claim | None:
        """Claim the entry whose turn it is; those that have lost their owner go first."""
        ledger = self._ledger
        ledger.sweep()
        unheard = ledger.clock.monotonic() - lost_after
        for lost in [name for name, beat in ledger.beats.items() if beat <= unheard]:
            row = self._shelf.get(lost)
            if row is None:
                continue
            if row.entry.read:
                self._end(row, "failed", OWNER_LOST)
                continue
            claim = self._take(ledger.anew(row), attempts)
            if claim is not None:
                return claim
        while (turn := ledger.next_turn()) is not None:
            row = self._shelf.get(turn.id)
            claim = self._take(row, attempts) if row is not None else None
            if claim is not None:
                ledger.charged[turn.id] = turn
                return claim
        return None

    def beat(self, claims: Sequence[Claim]) -> Sequence[str]:
        """Note that the owners of these claims live; return the ids of those that are fenced."""
        now, fenced = self._ledger.clock.monotonic(), []
        for claim in claims:
            row = self._held(claim)
            if row is None:
                fenced.append(claim.entry.id)
            elif row.entry.kind == "request":
                self._ledger.beats[row.entry.id] = now
        return fenced

    def begin(self, claim: Claim, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Note how the answer begins."""
        row = self._of(claim)
        self._ledger.save(row.but(status=status, answer_headers=tuple(headers)))

    def append(self, claim: Claim, data: bytes, at: int | None = None) -> int:
        """Append to the record."""
        row = self._of(claim)
        if at is not None and row.entry.recorded != at:
            if row.entry.recorded == at + len(data):
                return row.entry.recorded
            raise _other_length(row.entry, at)
        length = row.entry.recorded + len(data)
        if length > row.most_answer:
            raise JournalFull("bytes", f"the answer is longer than the {row.most_answer} bytes that are kept of one")
        if data:
            self._shelf.append(row.entry.id, row.entry.recorded, data)
            self._ledger.save(row.but(recorded=length))
        return length

    def finish(
        self, claim: Claim, state: State, error: str | None, usage: Mapping[str, int] | None, at: int | None = None
    ) -> Entry:
        """End the entry."""
        if state not in OVER:
            raise ValueError(f"an entry does not end as {state}")
        row = self._of(claim)
        if at is not None and row.entry.recorded != at:
            raise _other_length(row.entry, at)
        return self._end(row, state, error, usage).entry

    def release(self, claim: Claim, again_after: float, counts: bool) -> None:
        """Queue the entry again."""
        row = self._of(claim)
        entry = row.entry
        ready_at = self._ledger.clock.time() + again_after if again_after > 0 else 0.0
        charged = self._ledger.charged.pop(entry.id, None)
        row = self._ledger.anew(row)
        attempts = entry.attempts if counts else entry.attempts - 1
        self._ledger.save(row.but(state="queued", attempts=attempts, started_at=None, ready_at=ready_at))
        if charged is not None and not counts:
            self._ledger.turns.give_back(charged)

    def read(self, id: str, offset: int, limit: int) -> bytes | None:
        """Return a part of the record, and note that it was read."""
        row = self._ledger.get(id)
        if row is None:
            return None
        data = self._shelf.read(id, offset, limit) if 0 <= offset < row.entry.recorded and limit > 0 else b""
        if data and not row.entry.over and not row.entry.read:
            self._ledger.save(row.but(read=True))
        return data

    def _take(self, row: Row, attempts: int) -> Claim | None:
        """Claim a row; None where it has been claimed too often, and is dead then."""
        entry = row.entry
        if entry.attempts >= attempts:
            self._end(row, "dead", TOO_OFTEN.format(entry.attempts))
            return None
        now = self._ledger.clock.time()
        fence = entry.fence + 1
        row = row.but(state="running", attempts=entry.attempts + 1, fence=fence, started_at=now, ready_at=0.0)
        self._ledger.beats.pop(entry.id, None)  # a new owner is as good as heard
        self._ledger.save(row)
        return Claim(row.entry, self._shelf.body(entry.id), fence)

    def _end(self, row: Row, state: State, error: str | None, usage: Mapping[str, int] | None = None) -> Row:
        ended = row.but(state=state, error=error, ended_at=self._ledger.clock.time(), ready_at=0.0)
        return self._ledger.save(ended.but(usage=dict(usage)) if usage is not None else ended)

    def _held(self, claim: Claim) -> Row | None:
        """Return the row of a claim that is the latest; None where it is not."""
        row = self._ledger.get(claim.entry.id)
        if row is None or row.entry.state != "running" or row.entry.fence != claim.fence:
            return None
        return row

    def _of(self, claim: Claim) -> Row:
        row = self._held(claim)
        if row is None:
            raise Fenced(f"another owner has the entry {claim.entry.id}, or it is over")
        return row


def _other_length(entry: Entry, at: int) -> Fenced:
    return Fenced(f"the record of {entry.id} has {entry.recorded} bytes, and its owner wrote {at}")
