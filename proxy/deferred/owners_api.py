"""What the owner of an entry may do with it: list, look, read the answer, cancel, delete.

An entry of somebody else is answered as if it did not exist.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final

from proxy.deferred.answer_reader import check_start, record_from
from proxy.deferred.byte_range import FARTHEST, ByteRange, is_still, range_of
from proxy.deferred.stored_routes import ANSWER, END, REQUEST, REQUESTS
from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import stored_caller_of
from proxy.kernel.asgi import Send, respond, start_response
from proxy.kernel.entry_document import description
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import Flavor, Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, Query
from proxy.kernel.own_entry import own_entry
from proxy.kernel.preferences import preferences
from proxy.kernel.route import Route
from proxy.kernel.routes import Match
from proxy.kernel.stored_request_handler import NO_STORE, Handler, page_size, parameters, send_json
from proxy.kernel.webhooks import Webhooks

MOST_LISTED: Final = 100
LONGEST_WAIT: Final = 300
"""Seconds that a client may wait for an answer to begin."""
AGAIN: Final = 2
"""Seconds after which a client may ask again for an answer that has not begun."""

_NEVER: Final = 2**62
"""Bytes that no record has: who waits for them waits until it is over."""
_FLAVORS: Final[Mapping[str, Flavor]] = {name: name for name in ("ollama", "openai", "anthropic", "text")}


class OwnersApi:
    """Answers the routes of `proxy.deferred.stored_routes`; `StoredApp` there answers for a journal that fails.

    Args:
        journal: where the entries are.
        webhooks: tells whom it concerns that an entry was cancelled.
    """

    def __init__(self, journal: Journal, webhooks: Webhooks) -> None:
        self._journal = journal
        self._webhooks = webhooks
        self.handlers: Mapping[Route, Handler] = {
            REQUESTS: self._list,
            REQUEST: self._show,
            END: self._end,
            ANSWER: self._answer,
        }

    async def _list(self, exchange: Exchange, send: Send) -> None:
        """Answer with the caller's requests, newest first, and the id behind which the rest of them begins."""
        given = parameters(exchange)
        limit = page_size(given.get("limit"), MOST_LISTED, MOST_LISTED)
        query = Query(
            owner=stored_caller_of(exchange).owner,
            kinds=("request",),
            after=given.get("after"),
            limit=limit,
        )
        found = await self._journal.entries(query)
        document = {
            "requests": [description(entry, durable=self._journal.durable) for entry in found],
            "next": found[-1].id if len(found) == limit else None,
        }
        await send_json(send, document)

    async def _show(self, exchange: Exchange, send: Send) -> None:
        """Answer with the state of an entry."""
        entry = await self._own(exchange)
        await send_json(send, description(entry, durable=self._journal.durable))

    async def _end(self, exchange: Exchange, send: Send) -> None:
        """Cancel an entry, which stops its run wherever it runs; delete one that is over."""
        entry = await self._own(exchange)
        if entry.over:
            await self._journal.delete(entry.id)
            await respond(send, 204, [], b"")
            return
        cancelled = await self._journal.cancel(entry.id, "its owner ended it")
        if cancelled is not None:
            self._webhooks.notify(cancelled)
        await send_json(send, description(cancelled or entry, durable=self._journal.durable))

    async def _own(self, exchange: Exchange) -> Entry:
        """Return the entry that the path names; raises Refused (404) unless it is the caller's own."""
        named = exchange.match.argument if isinstance(exchange.match, Match) else None
        entry = await own_entry(self._journal, stored_caller_of(exchange).owner, named, "request", "live")
        if entry is None:
            raise not_found()
        return entry

    # The answer

    async def _answer(self, exchange: Exchange, send: Send) -> None:
        """Answer with what was recorded, and with what is still to come."""
        entry = await self._begun(await self._own(exchange), preferences(exchange.scope).wait or 0)
        if not (entry.over or entry.recorded or entry.kind == "live"):
            headers = [(b"retry-after", b"%d" % AGAIN)]
            await send_json(send, description(entry, durable=self._journal.durable), 202, headers)
            return
        try:
            await self._send_record(exchange, entry, send)
        except Refused as refused:
            if exchange.status is not None:
                raise
            status, headers, body = render(_FLAVORS[entry.flavor], refused, exchange.id)
            await respond(send, status, [*headers, NO_STORE], body)

    async def _begun(self, entry: Entry, wait: float) -> Entry:
        """Return the entry when a byte of its answer is there, or it is over, or after `wait` seconds (RFC 7240)."""
        if wait <= 0 or entry.over or entry.recorded or entry.kind == "live":
            return entry
        changed = await self._journal.wait_for_change(entry.id, 0, min(wait, LONGEST_WAIT))
        if changed is None:
            raise not_found()
        return changed

    async def _send_record(self, exchange: Exchange, entry: Entry, send: Send) -> None:
        """Send the record, or the part of it that was asked for; raises Refused before it has begun."""
        wanted = range_of(exchange.scope)
        entry = await self._settled(entry, wanted)
        if entry.over and entry.status is None:
            raise _never_answered(entry)
        etag = b'"%b-%d"' % (entry.id.encode(), entry.fence)
        whole = entry.over and entry.kind == "request" and entry.status is not None and entry.status >= 400
        if whole or (entry.over and not entry.recorded) or not is_still(exchange.scope, etag):
            wanted = None  # an error has no parts, nor has nothing
        start, end = wanted.resolved(entry.recorded) if wanted is not None else (0, None)
        if not whole:
            check_start(entry, start)
        status = entry.status or 200
        kept = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in entry.answer_headers)
        headers = [field for field in kept if field[0] != NO_STORE[0]]
        headers += [NO_STORE, (b"accept-ranges", b"bytes")]
        if not whole:
            headers.append((b"etag", etag))
        if wanted is not None:
            status = 206
            headers.append((b"content-range", _content_range(entry, start, end)))
        if entry.over and (whole or entry.state == "completed"):
            last = entry.recorded if end is None else min(end, entry.recorded)
            headers.append((b"content-length", b"%d" % (last - start)))
        await start_response(send, status, headers)
        if entry.recorded or not entry.over:
            pieces = _recorded(self._journal, entry) if whole else record_from(self._journal, entry, start)
            async with aclosing(_until(pieces, None if end is None else end - start)) as parts:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _settled(self, entry: Entry, wanted: ByteRange | None) -> Entry:
        """Return the entry when it is known how the part of it that is wanted begins.

        An error is recorded when its request is about to be over. The client of a live answer may have seen more than
        is recorded so far: it gets the beginning at once.
        """
        while not entry.over:
            first = wanted.first if wanted is not None else 0
            if first is None or (entry.status is not None and entry.status >= 400):
                first = _NEVER
            elif entry.kind == "live":
                return entry
            if entry.recorded >= first:
                return entry
            changed = await self._journal.wait_for_change(entry.id, first - 1, LONGEST_WAIT)
            if changed is None:
                raise not_found()
            entry = changed
        return entry


async def _recorded(journal: Journal, entry: Entry) -> AsyncGenerator[bytes]:
    """Yield the record of an entry that is over, an error that is whole although it is no answer."""
    offset = 0
    while data := await journal.read(entry.id, offset, 64 * 1024):
        offset += len(data)
        yield data


async def _until(pieces: AsyncIterator[bytes], length: int | None) -> AsyncGenerator[bytes]:
    """Yield the first `length` bytes of `pieces`, or all."""
    async for piece in pieces:
        if length is None:
            yield piece
            continue
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return


def not_found() -> Refused:
    """Return the error for an entry that is not there, or not the caller's."""
    return Refused(
        404,
        "you have no request of that id: it never was, is over and gone, or is somebody else's",
        code=codes.REQUEST_NOT_FOUND,
    )


def _never_answered(entry: Entry) -> Refused:
    status = 410 if entry.state in ("cancelled", "expired") else 502
    why = (entry.error or "it has no answer").removeprefix(f"{entry.state}: ")
    return Refused(status, f"the request is {entry.state}: {why}", code=codes.DEFERRED_FAILED)


def _content_range(entry: Entry, start: int, end: int | None) -> bytes:
    """Return the Content-Range (RFC 9110, section 14.4); the length is ``*`` while it is not known.

    Where the end of the range is not known, either, it is a very large number, as RFC 8673, section 2.2, says.
    """
    if entry.state == "completed":
        last = entry.recorded if end is None else min(end, entry.recorded)
        return b"bytes %d-%d/%d" % (start, last - 1, entry.recorded)
    return b"bytes %d-%d/*" % (start, min(end - 1, FARTHEST) if end is not None else FARTHEST)
