"""A journal in memory with a clock that is set by hand, and batches in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.batches.keeper import Keeper
from proxy.journal.memory import MemoryJournal
from proxy.kernel.acceptance import DeferTerms
from proxy.kernel.batch_terms import BatchOptions, BatchTerms
from proxy.kernel.journal import Entry, NewEntry, StoredCaller
from proxy.kernel.token_estimate import Estimate
from proxy.testing import ManualClock

ANN = StoredCaller("ann", "physics", client="10.0.0.1")
CHAT = "/v1/chat/completions"
SENT = json.dumps({"model": "m", "messages": []})


def terms(*, per_identity: int = 1000, **bounds: Any) -> BatchTerms:
    return BatchTerms(
        BatchOptions(**bounds),
        DeferTerms(
            priority=-10,
            keep=600.0,
            wait=None,
            attempts=3,
            per_identity=per_identity,
            total=1000,
            max_body=10_000,
            max_answer=10_000,
            weight=1.0,
            estimate=Estimate(),
        ),
    )


def lines(*names: str) -> bytes:
    made = ({"custom_id": name, "method": "POST", "url": CHAT, "body": json.loads(SENT)} for name in names)
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)


@dataclass
class Bench:
    """A journal, its keeper, and the batches that have ended."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(1_000_000.0))
    ended: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = MemoryJournal(self.clock)
        self.keeper = Keeper(self.journal, self.clock, self.ended.append)
        self.keeper.use(active=True)

    async def begin(self, data: bytes, on: BatchTerms | None = None, **meta: Any) -> Entry:
        """Put in a file and a batch of its lines."""
        now = self.clock.time()
        kept: dict[str, Any] = {"caller": ANN, "flavor": "openai", "created_at": now, "expires_at": now + 10_000.0}
        about = {"filename": "in", "purpose": "batch", "bytes": len(data)}
        await self.journal.add(NewEntry(id="file-in", kind="file", body=data, meta=about, **kept))
        facts = {"endpoint": CHAT, "input": "file-in", "metadata": None, "completion_window": "24h"}
        noted = {**facts, "terms": (on or terms()).as_meta(), "deadline": now + 3600.0, **meta}
        return await self.journal.add(NewEntry(id="batch_1", kind="batch", meta=noted, **kept))

    async def batch(self, id: str = "batch_1") -> Entry:
        entry = await self.journal.get(id)
        assert entry is not None
        return entry

    async def waiting(self) -> int:
        return (await self.journal.children("batch_1")).get("queued", 0)

    async def answer(self, status: int = 200, body: bytes = b'{"ok":true}') -> Entry:
        """Run the request whose turn it is, as the runner does."""
        claim = await self.journal.claim("test", attempts=3, lost_after=30.0)
        assert claim is not None
        await self.journal.begin(claim, status, ())
        await self.journal.append(claim, body)
        error = None if status < 400 else f"http_{status}: it failed"
        ended = await self.journal.finish(claim, "completed" if status < 400 else "failed", error=error)
        self.keeper.ended(ended)
        return ended

    async def read(self, id: object) -> Sequence[dict[str, Any]]:
        body = await self.journal.body(str(id))
        return [json.loads(line) for line in (body or b"").splitlines()]
