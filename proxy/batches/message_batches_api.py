"""Anthropic's message batches: begun with a list of requests, ended with one list of results."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final

from proxy.batches.files_api import send_file
from proxy.batches.input_lines import LineForm, Problem, check_lines
from proxy.batches.owned import Owned, behind, named_in_path, terms_for
from proxy.batches.progress import tally
from proxy.batches.routes import (
    CANCEL_MESSAGES,
    CREATE_MESSAGES,
    DELETE_MESSAGES,
    MESSAGE_BATCH,
    MESSAGES,
    RESULTS,
)
from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import stored_caller_of
from proxy.kernel.asgi import Send, header
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, NewEntry
from proxy.kernel.json_members import elements_of, members_of, on_one_line
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.kernel.stored_request_handler import Handler, page_size, parameters, send_json
from proxy.kernel.webhooks import webhook_meta
from proxy.kernel.worker_threads import off_loop

PATH: Final = next(route.path for route in OLLAMA if route.flavor == "anthropic" and route.run is not None)
"""Where the requests of a batch go."""
KEPT: Final = (b"anthropic-version", b"anthropic-beta")
"""The fields of the request that each of its requests has as well."""


class MessageBatchesApi:
    """Answers the routes of message batches.

    Args:
        journal: where they are.
        clock: tells the time.
        kick: has the keeper look at a batch.
    """

    def __init__(self, journal: Journal, clock: Clock, kick: Callable[[str], None]) -> None:
        self._owned = Owned(journal, "anthropic")
        self._journal = journal
        self._clock = clock
        self._kick = kick
        self.handlers: Mapping[Route, Handler] = {
            CREATE_MESSAGES: self._create,
            MESSAGES: self._list,
            MESSAGE_BATCH: self._show,
            CANCEL_MESSAGES: self._cancel,
            DELETE_MESSAGES: self._delete,
            RESULTS: self._results,
        }

    async def _create(self, exchange: Exchange, send: Send) -> None:
        terms = terms_for(exchange)
        await exchange.body()
        asked = await exchange.json()
        requests = asked.get("requests")
        if not isinstance(requests, list) or not requests:
            raise _invalid("requests must be a list that is not empty")
        if len(requests) > terms.bounds.lines:
            message = f"the batch has {len(requests)} requests, and may have {terms.bounds.lines}"
            raise Refused(413, message, code=codes.TOO_MANY_LINES)
        told = webhook_meta(exchange.scope, terms.webhooks)
        await self._owned.check_room(exchange, terms)
        exchange.edit({})  # takes off a content encoding
        text = await exchange.body()
        lines, problems = await off_loop(exchange.caller, _lines, text, terms.defer.max_body)
        if problems:
            first = problems[0]
            raise _invalid(f"requests.{first.line - 1}: {first.message}")
        if len(lines) > terms.bounds.size:
            message = f"the requests have {len(lines)} bytes, and a batch may have {terms.bounds.size}"
            raise Refused(413, message, code=codes.FILE_TOO_LARGE)
        now, name = self._clock.time(), f"msgbatch_{token_hex(16)}"
        meta = {
            "endpoint": PATH,
            "input": name,
            "total": len(requests),
            "in_progress_at": now,
            "terms": terms.as_meta(),
            "deadline": now + terms.bounds.window,
            **told,
        }
        fields = ((key, header(exchange.scope["headers"], key)) for key in KEPT)
        new = NewEntry(
            id=name,
            kind="batch",
            caller=stored_caller_of(exchange),
            path="/v1/messages/batches",
            headers=tuple((key.decode(), value.decode("latin-1")) for key, value in fields if value is not None),
            body=lines,
            flavor="anthropic",
            created_at=now,
            expires_at=now + max(terms.bounds.keep, terms.bounds.window),
            meta=meta,
        )
        batch = await self._owned.add(new)
        self._kick(batch.id)
        await send_json(send, await self._document(batch, exchange))

    async def _list(self, exchange: Exchange, send: Send) -> None:
        asked = parameters(exchange)
        limit = page_size(asked.get("limit"), 20, 1000)
        entries = await self._owned.all_of(exchange, "batch")
        if (before := asked.get("before_id")) is not None:
            earlier = behind(entries[::-1], before)
            page, more = list(earlier[:limit][::-1]), len(earlier) > limit
        else:
            rest = behind(entries, asked.get("after_id"))
            page, more = list(rest[:limit]), len(rest) > limit
        await send_json(
            send,
            {
                "data": [await self._document(batch, exchange) for batch in page],
                "has_more": more,
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
            },
        )

    async def _show(self, exchange: Exchange, send: Send) -> None:
        await send_json(send, await self._document(await self._batch(exchange), exchange))

    async def _cancel(self, exchange: Exchange, send: Send) -> None:
        batch = await self._batch(exchange)
        if not batch.over and "cancelling_at" not in batch.meta:
            batch = await self._journal.set_meta(batch.id, {"cancelling_at": self._clock.time()}) or batch
            self._kick(batch.id)
        await send_json(send, await self._document(batch, exchange))

    async def _delete(self, exchange: Exchange, send: Send) -> None:
        batch = await self._batch(exchange)
        if not batch.over:
            raise _not_ended("be deleted: cancel it first")
        await self._journal.delete(batch.id)
        await self._journal.delete(str(batch.meta.get("results_id")))
        await send_json(send, {"id": batch.id, "type": "message_batch_deleted"})

    async def _results(self, exchange: Exchange, send: Send) -> None:
        batch = await self._batch(exchange)
        if not batch.over:
            raise _not_ended("tell its results")
        body = await self._journal.body(str(batch.meta.get("results_id")))
        await send_file(send, body or b"", b"application/x-jsonl")

    async def _batch(self, exchange: Exchange) -> Entry:
        named = named_in_path(exchange)
        batch = await self._owned.find(exchange, named, "batch")
        if batch is None:
            shown = named[:64].encode("unicode_escape").decode()
            raise Refused(404, f"there is no message batch {shown}", code=codes.NO_SUCH_BATCH)
        return batch

    async def _document(self, batch: Entry, exchange: Exchange) -> dict[str, Any]:
        counts = tally(batch, await self._journal.children(batch.id))
        return message_batch(batch, counts, f"{_own_address(exchange)}/v1/messages/batches/{batch.id}/results")


def message_batch(batch: Entry, counts: Mapping[str, int], results: str) -> dict[str, Any]:
    """Return a batch as the SDK's type ``MessageBatch``.

    Args:
        batch: the batch.
        counts: its numbers, as `tally` has them. As long as it runs, all of them are ``processing``.
        results: the address of its results.
    """
    meta = batch.meta
    if not batch.over:
        counts = {**dict.fromkeys(counts, 0), "processing": int(meta["total"])}
    status = "ended" if batch.over else "canceling" if "cancelling_at" in meta else "in_progress"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": dict(counts),
        "created_at": _date(batch.created_at),
        "expires_at": _date(meta["deadline"]),
        "ended_at": _date(meta.get("ended_at")),
        "cancel_initiated_at": _date(meta.get("cancelling_at")),
        "archived_at": None,
        "results_url": results if batch.over else None,
    }


def _lines(text: bytes, longest: int) -> tuple[bytes, list[Problem]]:
    """Return the requests of a body, one on each line, and what is wrong with them."""
    found = elements_of(members_of(text)["requests"])
    lines = b"".join(on_one_line(element) + b"\n" for element in found)
    return lines, check_lines(lines, LineForm.of("anthropic", PATH), longest)[1]


def _own_address(exchange: Exchange) -> str:
    """Return the address by which the client reached the proxy."""
    scope = exchange.scope
    headers = scope["headers"]
    told = header(headers, b"x-forwarded-proto") if exchange.relayed else None
    scheme = told.decode("latin-1") if told in (b"http", b"https") else scope.get("scheme", "http")
    host = (header(headers, b"host") or b"").decode("latin-1")
    return f"{scheme}://{host}{scope.get('root_path', '')}"


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _invalid(why: str) -> Refused:
    return Refused(400, why, code=codes.INVALID_BATCH)


def _not_ended(what: str) -> Refused:
    return Refused(409, f"the batch has not ended and cannot {what}", code=codes.BATCH_NOT_ENDED)
