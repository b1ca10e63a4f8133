"""Ending a batch: its results are put into files, and its requests removed.

It may be begun again at any point, by another process too, and comes to the same: a file has an id that is always the
same, and the first that was written stays. The file that is written last has the counts; only behind it is the batch
noted as ended, and only then are its requests removed.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
import structlog

from proxy.batches.input_lines import lines_from
from proxy.batches.progress import ENDS, Status, file_id, form_of, request_id, status_of, terms_of
from proxy.batches.results import Result, line_for, result_of
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Entry, Journal, NewEntry

PIECE: Final = 1024 * 1024
"""Bytes of an answer that are read at once."""

log = structlog.get_logger("ollama_proxy.batches")


async def end(journal: Journal, batch: Entry, data: bytes | None, status: Status, clock: Clock) -> Entry | None:
    """End a batch of which no request waits or runs.

    Args:
        journal: where it is.
        batch: the batch.
        data: its lines; None where its file is gone.
        status: the status that it ends with: ``completed``, ``cancelled`` or ``expired``.
        clock: tells the time.

    Returns:
        The batch as it is then; None where it was deleted.

    Raises:
        JournalFull: there is no room for its results.
        StoreUnavailable: the journal does not answer.
    """
    results, errors = _Lines(terms_of(batch).bounds.size), _Lines(terms_of(batch).bounds.size)
    counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    together = batch.flavor == "anthropic"  # its results have the errors among them
    async for result in _results(journal, batch, data, status):
        line = line_for(form_of(batch).flavor, result)
        if (results if together or result.kind == "succeeded" else errors).add(line):
            counts[result.kind] += 1
            continue
        counts["errored"] += 1
        lost = Result(result.id, result.custom_id, "errored", reason="file_full", message="the file of results is full")
        errors.add(line_for(form_of(batch).flavor, lost))
        log.warning("batch_result_left_out", entry=result.id)
    if errors.size:
        await journal.add(_file(batch, "errors", errors, clock, {}))
    meta = {"counts": counts, "errors": errors.size > 0, "results": results.size > 0}
    first = await journal.add(_file(batch, "output", results, clock, meta))
    return await _note(journal, batch, first, status, clock)


async def _note(journal: Journal, batch: Entry, output: Entry, status: Status, clock: Clock) -> Entry | None:
    """Note that the batch has ended, and remove its requests."""
    now = clock.time()
    changes: dict[str, Any] = {f"{status}_at": now, "ended_at": now, "counts": output.meta["counts"]}
    if batch.flavor == "anthropic":
        changes["results_id"] = output.id
    else:
        changes["output_file_id"] = output.id if output.meta["results"] else None
        changes["error_file_id"] = file_id(batch, "errors") if output.meta["errors"] else None
    known = await journal.get(batch.id)
    if known is None or known.over:
        return known
    ended = await journal.set_meta(batch.id, changes, state=ENDS[status])
    for number in range(int(batch.meta.get("fed", 0))):
        await journal.delete(request_id(batch, number))
    return ended


async def _results(journal: Journal, batch: Entry, data: bytes | None, status: Status) -> AsyncIterator[Result]:
    """Yield what became of each request, in the order of the lines."""
    total = int(batch.meta.get("total", 0))
    texts = (text for text, _ in lines_from(data)) if data is not None else iter(())
    for number in range(total):
        name, text = request_id(batch, number), next(texts, None)
        entry = await journal.get(name)
        custom_id = entry.meta.get("custom_id", "") if entry is not None else _custom_id(text)
        record = await _record(journal, name) if entry is not None and entry.over else b""
        yield result_of(name, custom_id, entry, record, status if status in ("expired", "cancelled") else "cancelled")


def _custom_id(text: bytes | None) -> str:
    return str(orjson.loads(text)["custom_id"]) if text is not None else ""


async def _record(journal: Journal, id: str) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while part := await journal.read(id, offset, PIECE):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


class _Lines:
    """The lines of a file, up to its largest size."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: list[bytes] = []
        self.size = 0

    def add(self, line: bytes) -> bool:
        """Add a line; return whether there was room for it."""
        if self.size + len(line) > self._most:
            return False
        self._lines.append(line)
        self.size += len(line)
        return True

    def __bytes__(self) -> bytes:
        return b"".join(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def _file(batch: Entry, purpose: str, lines: _Lines, clock: Clock, meta: dict[str, Any]) -> NewEntry:
    name = file_id(batch, purpose)
    hidden = batch.flavor == "anthropic" or not lines.size
    return NewEntry(
        id=name,
        kind="file",
        caller=batch.caller,
        body=bytes(lines),
        flavor=batch.flavor,
        created_at=clock.time(),
        expires_at=batch.expires_at,
        idempotency_key=f"file {name}",
        meta={
            **meta,
            "filename": f"{batch.id}_{purpose}.jsonl",
            "purpose": "batch_output",
            "bytes": lines.size,
            "hidden": hidden,
        },
    )


def ends_as(batch: Entry, *, expired: bool) -> Status:
    """Return the status with which a batch ends."""
    if status_of(batch) == "cancelling":
        return "cancelled"
    return "expired" if expired else "completed"
