"""What the owner of an entry may do with it: list, look, read the answer, cancel, delete.

An entry of somebody else is answered as if it did not exist.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from proxy.deferred.answer_reader import check_start, record_from
from proxy.deferred.byte_range import range_of
from proxy.deferred.stored_routes import ANSWER, END, REQUEST, REQUESTS
from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import journal_unavailable, stored_caller_of
from proxy.kernel.asgi import Header, Send, header_values, respond, start_response
from proxy.kernel.entry_document import description
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import JSON, Flavor, Refused, Truncated
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, Query
from proxy.kernel.route import Route
from proxy.kernel.routes import Match
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.stored_request_handler import Handler
from proxy.kernel.webhooks import Webhooks

MOST_LISTED: Final = 100
LONGEST_WAIT: Final = 300
"""Seconds that a client may wait for an answer to begin."""
UNKNOWN_END: Final = 2**53
"""Stands for the end of a range that is not known yet (RFC 8673, section 4)."""
AGAIN: Final = 2
"""Seconds after which a client may ask again for an answer that has not begun."""

_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:;[^,]*)?(?:,|$)", re.IGNORECASE)
_FLAVORS: Final[Mapping[str, Flavor]] = {name: name for name in ("ollama", "openai", "anthropic", "text")}


class OwnersApi:
    """Answers the routes of `proxy.deferred.stored_routes`.

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
        given = parse_qs(exchange.scope["query_string"].decode("latin-1"))
        limit = _limit(given.get("limit", [str(MOST_LISTED)])[-1])
        query = Query(
            owner=stored_caller_of(exchange).owner,
            kinds=("request",),
            after=given.get("after", [None])[-1],
            limit=limit,
        )
        try:
            found = await self._journal.entries(query)
        except StoreUnavailable as error:
            raise journal_unavailable() from error
        document = {
            "requests": [description(entry, durable=self._journal.durable) for entry in found],
            "next": found[-1].id if len(found) == limit else None,
        }
        await _respond(send, 200, document)

    async def _show(self, exchange: Exchange, send: Send) -> None:
        """Answer with the state of an entry."""
        entry = await self._own(exchange)
        await _respond(send, 200, description(entry, durable=self._journal.durable))

    async def _end(self, exchange: Exchange, send: Send) -> None:
        """Cancel an entry, which stops its run wherever it runs; delete one that is over."""
        entry = await self._own(exchange)
        try:
            if entry.over:
                await self._journal.delete(entry.id)
                await respond(send, 204, [], b"")
                return
            cancelled = await self._journal.cancel(entry.id, "cancelled: its owner ended it")
        except StoreUnavailable as error:
            raise journal_unavailable() from error
        if cancelled is not None:
            self._webhooks.notify(cancelled)
        await _respond(send, 200, description(cancelled or entry, durable=self._journal.durable))

    async def _own(self, exchange: Exchange) -> Entry:
        """Return the entry that the path names; raises Refused (404 unless it is the caller's own, 503)."""
        named = exchange.match.argument if isinstance(exchange.match, Match) else None
        try:
            entry = await self._journal.get(named) if named is not None else None
        except StoreUnavailable as error:
            raise journal_unavailable() from error
        if entry is None or entry.kind not in ("request", "live") or entry.caller.owner != _owner(exchange):
            raise not_found()
        return entry

    # The answer

    async def _answer(self, exchange: Exchange, send: Send) -> None:
        """Answer with what was recorded, and with what is still to come."""
        entry = await self._begun(await self._own(exchange), _wait_of(exchange))
        if not (entry.over or entry.recorded or entry.kind == "live"):
            headers = [(b"retry-after", b"%d" % AGAIN)]
            await _respond(send, 202, description(entry, durable=self._journal.durable), headers)
            return
        try:
            await self._send_record(exchange, entry, send)
        except StoreUnavailable as error:
            if exchange.status is not None:
                raise Truncated("the journal does not answer any more") from error
            raise journal_unavailable() from error
        except Refused as refused:
            if exchange.status is not None:
                raise
            status, headers, body = render(_FLAVORS[entry.flavor], refused, exchange.id)
            await respond(send, status, headers, body)

    async def _begun(self, entry: Entry, wait: float) -> Entry:
        """Return the entry when a byte of its answer is there, or it is over, or after `wait` seconds."""
        if wait <= 0 or entry.over or entry.recorded or entry.kind == "live":
            return entry
        try:
            changed = await self._journal.wait_for_change(entry.id, 0, wait)
        except StoreUnavailable as error:
            raise journal_unavailable() from error
        if changed is None:
            raise not_found()
        return changed

    async def _send_record(self, exchange: Exchange, entry: Entry, send: Send) -> None:
        """Send the record, or the part of it that was asked for; raises Refused before it has begun."""
        if entry.status is not None and entry.status >= 400:
            entry = await self._ended(entry)  # an error is recorded when the request is about to be over
        if entry.over and entry.status is None:
            raise _never_answered(entry)
        wanted = range_of(exchange.scope)
        whole = entry.over and entry.kind == "request" and entry.status is not None and entry.status >= 400
        if whole or (entry.over and not entry.recorded):
            wanted = None  # an error has no parts, nor has nothing
        if wanted is not None and wanted.suffix is not None and not entry.over:
            entry = await self._ended(entry)
        start, end = wanted.resolved(entry.recorded) if wanted is not None else (0, None)
        if not whole:
            check_start(entry, start)
        status = entry.status or 200
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in entry.answer_headers]
        headers.append((b"accept-ranges", b"bytes"))
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

    async def _ended(self, entry: Entry) -> Entry:
        """Return the entry when it is over."""
        while not entry.over:
            changed = await self._journal.wait_for_change(entry.id, 2**62, LONGEST_WAIT)
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
    return Refused(
        status, f"the request is {entry.state}: {entry.error or 'it has no answer'}", code=codes.DEFERRED_FAILED
    )


def _owner(exchange: Exchange) -> str:
    return stored_caller_of(exchange).owner


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_LISTED:
        raise Refused(400, f"limit: expected a number from 1 to {MOST_LISTED}", code=codes.INVALID_REQUEST)
    return int(text)


def _wait_of(exchange: Exchange) -> float:
    """Return the seconds that a client would wait for the answer to begin (RFC 7240, section 4.3)."""
    for value in header_values(exchange.scope["headers"], b"prefer"):
        if found := _WAIT.search(value.decode("latin-1")):
            return min(int(found[1]), LONGEST_WAIT)
    return 0.0


def _content_range(entry: Entry, start: int, end: int | None) -> bytes:
    """Return the Content-Range (RFC 9110, section 14.4); the length is ``*`` while it is not known.

    Where the end of the range is not known, either, it is a very large number, as RFC 8673, section 2.2, says.
    """
    if entry.state == "completed":
        last = entry.recorded if end is None else min(end, entry.recorded)
        return b"bytes %d-%d/%d" % (start, last - 1, entry.recorded)
    return b"bytes %d-%d/*" % (start, (end if end is not None else UNKNOWN_END) - 1)


async def _respond(send: Send, status: int, document: Mapping[str, Any], headers: list[Header] | None = None) -> None:
    body = orjson.dumps(document)
    fields: list[Header] = [(b"content-type", JSON), (b"content-length", b"%d" % len(body))]
    await respond(send, status, [*fields, *(headers or ())], body)
