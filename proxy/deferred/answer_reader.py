"""Reading the record of an entry of the journal from any byte, while it still grows.

The bytes are those that the backend sent, each once and in order. A record that breaks off before its answer was
complete never ends as if it were: its reader gets what is there, and then an error.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Cancelled, ProxyError, Refused, Truncated
from proxy.kernel.journal import ATTACHED, BEAT, Claim, Entry, Fenced, Journal

PIECE: Final = 64 * 1024
"""Bytes that are read at once."""
LOOK: Final = 2.0
"""Seconds between two looks at a record that does not grow."""
LOST_AFTER: Final = 10.0
"""Seconds without a byte and without a beat after which nobody records a live answer any more.

Measured by whoever reads, so that the clocks of two machines need not agree.
"""


def check_start(entry: Entry, offset: int) -> None:
    """Raise Refused where no byte of the record will ever be at `offset`: 416 behind its end, 410 where it broke off.

    A record that still grows may well lag behind what its client has seen: its readers wait.
    """
    if not entry.over or offset < entry.recorded or (offset == 0 and entry.state == "completed"):
        return
    if entry.state == "completed":
        raise Refused(
            416,
            f"the answer has {entry.recorded} bytes, and is complete",
            code=codes.RANGE_NOT_SATISFIABLE,
            headers={"content-range": f"bytes */{entry.recorded}"},
        )
    raise Refused(
        410,
        f"the first {entry.recorded} bytes of the answer are kept, and nothing follows: {entry.error or entry.state}",
        code=codes.ANSWER_GONE,
    )


async def record_from(journal: Journal, entry: Entry, offset: int) -> AsyncIterator[bytes]:
    """Yield the record of `entry` from `offset` on, and what is still to come, until the answer is complete.

    Raises Truncated or Cancelled where the record ends before that, and StoreUnavailable.
    """
    if entry.kind == "live" and not entry.over:
        await journal.set_meta(entry.id, {ATTACHED: True})
    silence = _Silence()
    while True:
        while data := await journal.read(entry.id, offset, PIECE):
            offset += len(data)
            yield data
        changed = await journal.wait_for_change(entry.id, offset, LOOK) if data is not None else None
        if changed is None:
            raise Truncated("the recorded answer was deleted, or has expired")
        if offset and changed.fence != entry.fence:
            raise Truncated("the request has begun anew, and its answer may be another one")
        if changed.recorded > offset:
            continue
        if changed.over:
            if changed.state == "completed":
                return
            raise _end_of(changed)
        if changed.kind == "live" and silence.lasts(changed):
            await _end_lost(journal, changed)


class _Silence:
    """Tells for how long nothing has been heard of a live record."""

    def __init__(self) -> None:
        self._heard: object = None
        self._since = 0.0

    def lasts(self, entry: Entry) -> bool:
        """Return whether the silence has lasted so long that nobody is there."""
        now, heard = asyncio.get_running_loop().time(), (entry.recorded, entry.meta.get(BEAT))
        if heard != self._heard:
            self._heard, self._since = heard, now
        return now - self._since >= LOST_AFTER


async def _end_lost(journal: Journal, entry: Entry) -> None:
    """End a live record that nobody writes any more; it is looked at once more behind this."""
    with suppress(Fenced):
        claim = Claim(entry, b"", entry.fence)
        await journal.finish(claim, "failed", error="owner_lost: the proxy that recorded the answer is gone")


def _end_of(entry: Entry) -> ProxyError:
    """Return the error with which the reader of a record that broke off ends."""
    if entry.state == "cancelled":
        return Cancelled(f"the request was ended: {entry.error or entry.state}")
    return Truncated(f"the recorded answer broke off: {entry.error or entry.state}")
