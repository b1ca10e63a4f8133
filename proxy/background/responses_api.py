"""Answers callers who ask for a response in background mode: as it is now, or its events as they come."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from proxy.background.response_events import Events, failed_event, renamed
from proxy.background.response_object import Status, input_items, response_object
from proxy.background.routes import CANCEL, DELETE, INPUT_ITEMS, RETRIEVE
from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import stored_caller_of
from proxy.kernel.asgi import UNBUFFERED, Header, Send, respond, start_response
from proxy.kernel.background import PREFIX, Background
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal
from proxy.kernel.own_entry import own_entry
from proxy.kernel.response_items import INPUT
from proxy.kernel.route import Route
from proxy.kernel.routes import Match
from proxy.kernel.stored_request_handler import Handler, parameters, send_json
from proxy.kernel.stored_responses import StoredResponse, entry_id, find_response
from proxy.kernel.webhooks import Webhooks

PIECE: Final = 64 * 1024
"""Bytes of a record that are read at once."""
LOOK: Final = 2.0
"""Seconds between two looks at a record that does not grow."""
QUIET: Final = 15.0
"""Seconds after which a stream without events gets a comment, so that nothing in between takes it for dead."""
_STREAM: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    UNBUFFERED,
)
_JSON: Final[list[Header]] = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_DIGITS: Final = 18


class ResponsesApi(Background):
    """Answers the routes of `proxy.background.routes`.

    Args:
        journal: where the responses are.
        webhooks: tells whom it concerns that an entry was cancelled.
    """

    def __init__(self, journal: Journal, webhooks: Webhooks) -> None:
        self._journal = journal
        self._webhooks = webhooks
        self.handlers: Mapping[Route, Handler] = {
            RETRIEVE: self._retrieve,
            DELETE: self._delete,
            CANCEL: self._cancel,
            INPUT_ITEMS: self._input_items,
        }

    async def accepted(self, entry: Entry, send: Send, *, stream: bool) -> None:
        """See `Background.accepted`."""
        if stream:
            await self._stream(entry, None, send)
        else:
            await respond(send, 200, _JSON, await self._document(entry))

    async def _retrieve(self, exchange: Exchange, send: Send) -> None:
        asked = parameters(exchange)
        entry = await self._found(exchange)
        if entry is None:
            stored = await self._stored(exchange)
            if asked.get("stream") == "true":
                raise _only_in_background("be streamed")
            await respond(send, 200, _JSON, orjson.dumps(stored.response))
        elif asked.get("stream") == "true":
            await self._stream(entry, _number(asked.get("starting_after")), send)
        else:
            await respond(send, 200, _JSON, await self._document(entry))

    async def _cancel(self, exchange: Exchange, send: Send) -> None:
        entry = await self._found(exchange)
        if entry is None:
            await self._stored(exchange)
            raise _only_in_background("be cancelled")
        if not entry.over:
            entry = await self._journal.cancel(entry.id, "the caller ended it") or entry
            self._webhooks.notify(entry)
        await respond(send, 200, _JSON, await self._document(entry))

    async def _delete(self, exchange: Exchange, send: Send) -> None:
        entry = await self._found(exchange)
        named = _named(exchange)
        stored = entry.id if entry is not None else entry_id(stored_caller_of(exchange).owner, named)
        if not await self._journal.delete(stored):
            raise _unknown(named)
        await send_json(send, {"id": named, "object": "response", "deleted": True})

    async def _input_items(self, exchange: Exchange, send: Send) -> None:
        entry = await self._found(exchange)
        given = (await self._request(entry)).get(INPUT) if entry is not None else (await self._stored(exchange)).input
        asked = parameters(exchange)
        items = input_items(_named(exchange), given)
        if asked.get("order") != "asc":
            items.reverse()
        ids = [str(item["id"]) for item in items]
        begin = ids.index(asked["after"]) + 1 if asked.get("after") in ids else 0
        limit = min(100, max(1, _number(asked.get("limit")) or 20))
        page = items[begin : begin + limit]
        await send_json(
            send,
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": begin + limit < len(items),
            },
        )

    # Entries

    async def _found(self, exchange: Exchange) -> Entry | None:
        """Return the caller's own response in background mode that the path names; None where there is none."""
        named = _named(exchange)
        if not named.startswith(PREFIX):
            return None
        return await own_entry(self._journal, stored_caller_of(exchange).owner, named, "request")

    async def _stored(self, exchange: Exchange) -> StoredResponse:
        """Return a response that the plugin `responses` keeps; raises Refused (404)."""
        named = _named(exchange)
        found = await find_response(self._journal, stored_caller_of(exchange).owner, named)
        if found is None:
            raise _unknown(named)
        return found

    async def _request(self, entry: Entry) -> Mapping[str, Any]:
        """Return the body of a request; empty where it is gone."""
        body = await self._journal.body(entry.id)
        document = orjson.loads(body) if body else {}
        return document if isinstance(document, dict) else {}

    # The object

    async def _document(self, entry: Entry) -> bytes:
        """Return the object as it is now; a record is read only once it is whole, so that it may begin anew till then.

        What a backend has finished comes as the backend sent it, but for the id.
        """
        if entry.state == "completed" or (entry.state == "failed" and entry.status == 200):
            record = await self._record(entry)
            whole = record if record[:1] == b"{" else _whole(record, entry.id)
            if whole is not None:
                return renamed(whole, entry.id)
        return orjson.dumps(await self._unmade(entry))

    async def _unmade(self, entry: Entry) -> dict[str, Any]:
        """Return the object of a response that no backend has finished."""
        request = await self._request(entry)
        waits: Mapping[str, Status] = {"queued": "queued", "running": "in_progress", "cancelled": "cancelled"}
        status = waits.get(entry.state)
        if status is not None:
            return response_object(entry, request, status)
        return response_object(entry, request, "failed", why=await self._why(entry))

    async def _why(self, entry: Entry) -> str:
        """Return why a response has failed: in the backend's own words where there are some."""
        if entry.status is not None and entry.status >= 400:
            said = _message(await self._record(entry))
            if said is not None:
                return said
        if entry.state == "completed":
            return "the backend ended its answer without the event response.completed"
        return entry.error or f"the request is {entry.state}"

    async def _record(self, entry: Entry) -> bytes:
        parts: list[bytes] = []
        offset = 0
        while part := await self._journal.read(entry.id, offset, PIECE * 16):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    # The events

    async def _stream(self, entry: Entry, after: int | None, send: Send) -> None:
        """Send the events behind number `after`, and those still to come, until the response is over."""
        await start_response(send, 200, list(_STREAM))
        events = Events(entry.id, after)
        clock = asyncio.get_running_loop().time
        offset, quiet_since = 0, clock()
        now: Entry | None = entry
        while now is not None and not (offset and now.fence != entry.fence):
            entry = now
            while data := await self._journal.read(entry.id, offset, PIECE) if entry.status == 200 else b"":
                offset += len(data)
                if ready := events.feed(data):
                    await send({"type": "http.response.body", "body": ready, "more_body": True})
                    quiet_since = clock()
            seen = offset if entry.status == 200 else entry.recorded  # an error is no event
            if entry.over and seen >= entry.recorded:
                break
            if clock() - quiet_since >= QUIET:
                await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})
                quiet_since = clock()
            now = await self._journal.wait_for_change(entry.id, seen, LOOK)
        last = b"" if events.whole is not None else await self._last(now, entry, events.last + 1, after)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _last(self, now: Entry | None, seen: Entry, number: int, after: int | None) -> bytes:
        """Return the event that ends a stream which the backend has not ended."""
        if after is not None and number <= after:
            number = after + 1
        if now is None:
            lost = response_object(seen, {}, "failed", why="the response was deleted, or has expired")
        elif not now.over:
            why = "the response was begun anew at another proxy: fetch it again, without starting_after"
            lost = response_object(seen, await self._request(now), "failed", why=why)
        else:
            lost = await self._unmade(now)
        return failed_event(lost, number)


def _whole(record: bytes, id: str) -> bytes | None:
    events = Events(id)
    events.feed(record)
    return events.whole


def _message(record: bytes) -> str | None:
    try:
        error = orjson.loads(record).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else None


def _named(exchange: Exchange) -> str:
    match = exchange.match
    named = match.argument if isinstance(match, Match) else None
    return named if named is not None and len(named) <= 128 else ""


def _number(text: str | None) -> int | None:
    """Return a number of a query; None where there is none; raises Refused (400)."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise Refused(400, "starting_after and limit are numbers from 0 on")
    return int(text)


def _only_in_background(what: str) -> Refused:
    return Refused(400, f"only a response in background mode can {what}; this one was answered at once")


def _unknown(named: str) -> Refused:
    shown = named[:64].encode("unicode_escape").decode()
    return Refused(404, f"Response with id '{shown}' not found.", code=codes.NO_SUCH_RESPONSE)
