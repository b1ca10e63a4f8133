"""Feeding a batch: its lines become requests of the journal, a few at a time.

So a batch of ten thousand lines does not fill the journal: what has no turn yet is still in its file. Each line has an
id of its own that is always the same; lines that are put in again, by another process or after a crash, are there
already.
"""

import asyncio
from dataclasses import replace
from itertools import islice

from proxy.batches.input_lines import Line, Wrong, lines_from, model_of, read_line
from proxy.batches.progress import form_of, open_in, request_id, status_of, terms_of
from proxy.kernel.acceptance import RUN_BY, new_entry
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Entry, Journal, JournalFull, NewEntry
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.routes import known_route
from proxy.kernel.token_estimate import Estimate, expect


async def feed(journal: Journal, batch: Entry, data: bytes, clock: Clock) -> Entry | None:
    """Let as many lines of a batch wait as may at once.

    A journal that takes no more requests of the caller, or of all, is asked again later. Raises StoreUnavailable.

    Args:
        journal: where the requests go.
        batch: the batch.
        data: its lines.
        clock: tells the time.

    Returns:
        The batch as it is then; None where it was deleted.
    """
    room = terms_of(batch).bounds.at_once - open_in(await journal.children(batch.id))
    fed, start = int(batch.meta.get("fed", 0)), int(batch.meta.get("fed_to", 0))
    lines = list(islice(lines_from(data, start), max(0, room)))
    if not lines:
        return batch
    made = [_entry(batch, fed + number, text, clock) for number, (text, _) in enumerate(lines)]
    put = await asyncio.gather(*(_put(journal, entry) for entry in made))
    taken = put.index(False) if False in put else len(put)
    if not taken:
        return batch
    after = await journal.set_meta(batch.id, {"fed": fed + taken, "fed_to": lines[taken - 1][1]})
    if after is None or after.over or status_of(after) != "in_progress":
        await asyncio.gather(*(journal.cancel(entry.id, "its batch has ended") for entry in made))
    return after


async def _put(journal: Journal, entry: NewEntry) -> bool:
    """Put a request in; return whether there was room for it."""
    try:
        await journal.add(entry)
    except JournalFull:
        return False
    return True


def _entry(batch: Entry, number: int, text: bytes, clock: Clock) -> NewEntry:
    terms, form = terms_of(batch), form_of(batch)
    try:
        line = read_line(text, form, terms.defer.max_body)
    except Wrong:  # it was checked when the batch began
        line = Line("", b"{}", {})
    name = request_id(batch, number)
    new = new_entry(
        terms.defer,
        batch.caller,
        now=clock.time(),
        path=form.path,
        body=line.body,
        id=name,
        flavor=form.flavor,
        model=model_of(line),
        cost=_cost(form.path, line, terms.defer.estimate),
        meta={"custom_id": line.custom_id, RUN_BY: batch.meta["deadline"]},
    )
    return replace(
        new,
        headers=(("content-type", "application/json"), *batch.headers),
        parent=batch.id,
        expires_at=batch.expires_at,
        idempotency_key=f"line {name}",
    )


def _cost(path: str, line: Line, estimate: Estimate) -> int:
    route = known_route(path, ("POST",))
    if route is None:
        return 1
    return expect(route, line.document, PromptSize.of(line.document, len(line.body)), estimate).total
