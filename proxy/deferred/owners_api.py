"""The answers to callers who ask for their own requests: their state, their answer from any byte, their end."""

import asyncio
from collections.abc import Mapping
from typing import Final, get_args
from urllib.parse import parse_qs

import orjson

from proxy.deferred.answer_reader import check_start, record_from
from proxy.deferred.byte_range import byte_range
from proxy.deferred.stored_routes import ANSWER, CANCEL, LIST, STATE
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import UNBUFFERED, Header, Receive, Scope, Send, header, respond, start_response
from proxy.kernel.entry_document import entry_document
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, Query, State
from proxy.kernel.route import Route
from proxy.kernel.routes import Match
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.stored_request_handler import Handler, Look
from proxy.kernel.stored_run import caller_of

MOST_LISTED: Final = 1000
LONGEST_WAIT: Final = 60.0
"""Seconds that a request for an answer may wait for its beginning."""
_JSON: Final[Header] = (b"content-type", b"application/json")
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")


class OwnersApi:
    """Answers the routes of `proxy.deferred.stored_routes`.

    Args:
        journal: where the requests are.
        look: tells the runner that an entry was cancelled or deleted.
        others: who answers the routes of other APIs.
    """

    def __init__(self, journal: Journal, look: Look, others: Mapping[Route, Handler]) -> None:
        self._journal = journal
        self._look = look
        self.handlers: Mapping[Route, Handler] = {
            LIST: self._list,
            STATE: self._state,
            CANCEL: self._cancel,
            ANSWER: self._answer,
            **others,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; raises Refused (400, 404, 410, 416, 503)."""
        exchange = Exchange.of(scope)
        assert exchange.route is not None  # noqa: S101 (the router looked it up)
        try:
            await self.handlers[exchange.route](exchange, send)
        except StoreUnavailable:
            message = "the journal does not answer; try again in 5 s"
            raise Refused(503, message, code=codes.JOURNAL_UNAVAILABLE, headers={"retry-after": "5"}) from None

    async def entry(self, exchange: Exchange) -> Entry:
        """Return the caller's own entry that the path names; raises Refused (404)."""
        match = exchange.match
        named = match.argument if isinstance(match, Match) else None
        entry = await self._journal.get(named) if named is not None and len(named) <= 64 else None
        if entry is None or entry.kind not in ("request", "live") or entry.caller.owner != caller_of(exchange).owner:
            raise Refused(
                404, "there is no request of that id; it has expired, or never was yours", code=codes.NO_SUCH_ENTRY
            )
        return entry

    async def _list(self, exchange: Exchange, send: Send) -> None:
        asked = parse_qs(exchange.scope["query_string"].decode("latin-1"))
        states = tuple(state for state in get_args(State) if state in asked.get("state", ()))
        limit = asked.get("limit", ["100"])[0]
        found = await self._journal.entries(
            Query(
                owner=caller_of(exchange).owner,
                kinds=("request",),
                states=states,
                after=asked.get("after", [None])[0],
                limit=min(MOST_LISTED, int(limit)) if limit.isascii() and limit.isdigit() else 100,
            )
        )
        await self._send_json(send, {"requests": [entry_document(entry, self._journal) for entry in found]})

    async def _state(self, exchange: Exchange, send: Send) -> None:
        await self._send_json(send, entry_document(await self.entry(exchange), self._journal))

    async def _cancel(self, exchange: Exchange, send: Send) -> None:
        entry = await self.entry(exchange)
        if entry.over:
            await self._journal.delete(entry.id)
            await respond(send, 204, [_NO_STORE], b"")
            return
        cancelled = await self._journal.cancel(entry.id, "the caller ended it") or entry
        await self._look(entry.id)
        await self._send_json(send, entry_document(cancelled, self._journal))

    async def _answer(self, exchange: Exchange, send: Send) -> None:
        """Send the record from the byte that is asked for; while it grows, what is still to come too."""
        entry = await self._begun(exchange, await self.entry(exchange))
        status = entry.status
        if status is None:
            await self._not_yet(exchange, entry, send)
            return
        asked = byte_range(header(exchange.scope["headers"], b"range")) if entry.status == 200 else None
        if asked is not None and asked.first is None:
            entry = await self._whole(entry)  # its last bytes are known when it is whole
        first, number = asked.within(entry.recorded) if asked is not None else (0, None)
        check_start(entry, first)
        fields: list[Header] = [(name.encode(), text.encode("latin-1")) for name, text in entry.answer_headers]
        fields += [_NO_STORE, UNBUFFERED, (b"accept-ranges", b"bytes")]
        if asked is not None:
            status = 206
            fields.append((b"content-range", _content_range(entry, first, number)))
        await start_response(send, status, fields)
        left = number
        async for data in record_from(self._journal, entry, first):
            part = data if left is None else data[:left]
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if left is not None and (left := left - len(part)) <= 0:
                break
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begun(self, exchange: Exchange, entry: Entry) -> Entry:
        """Return the entry when its answer has begun, or the client would wait no longer."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _patience(exchange)
        while entry.status is None and not entry.over and (left := until - loop.time()) > 0:
            changed = await self._journal.wait_for_change(entry.id, entry.recorded, min(1.0, left))
            if changed is None:
                break
            entry = changed
        return entry

    async def _whole(self, entry: Entry) -> Entry:
        while not entry.over:
            changed = await self._journal.wait_for_change(entry.id, entry.recorded, 1.0)
            if changed is None:
                break
            entry = changed
        return entry

    async def _not_yet(self, exchange: Exchange, entry: Entry, send: Send) -> None:
        """Say that there is no answer, and whether there will be one."""
        if entry.over:
            raise Refused(
                410, f"there is no answer: the request is {entry.state} ({entry.error})", code=codes.ANSWER_GONE
            )
        document = orjson.dumps(entry_document(entry, self._journal))
        await respond(send, 202, [_JSON, _NO_STORE, (b"retry-after", b"2")], document)

    @staticmethod
    async def _send_json(send: Send, document: object) -> None:
        await respond(send, 200, [_JSON, _NO_STORE], orjson.dumps(document))


def _content_range(entry: Entry, first: int, number: int | None) -> bytes:
    """Return the field for a part of an answer; its length is unknown while the answer grows."""
    whole = str(entry.recorded) if entry.over else "*"
    if number is not None:
        last = str(min(first + number, entry.recorded) - 1 if entry.over else first + number - 1)
    else:
        last = str(max(first, entry.recorded - 1))
    return f"bytes {first}-{last}/{whole}".encode()


def _patience(exchange: Exchange) -> float:
    """Return the seconds for which the client would wait for an answer to begin (`Prefer: wait=N`)."""
    value = header(exchange.scope["headers"], b"prefer")
    for part in (value or b"").decode("latin-1").split(","):
        name, _, seconds = part.partition("=")
        if name.strip().lower() == "wait" and seconds.strip().isdigit():
            return min(LONGEST_WAIT, float(seconds))
    return 0.0
