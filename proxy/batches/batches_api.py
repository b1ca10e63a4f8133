"""OpenAI's batches: begun with an uploaded file, ended with a file of results and one of errors."""

from collections.abc import Callable, Mapping
from secrets import token_hex
from typing import Any, Final

from proxy.batches.files_api import list_object, no_such_file
from proxy.batches.owned import Owned, behind, named_in_path, terms_for
from proxy.batches.progress import status_of, tally
from proxy.batches.routes import BATCH, BATCHES, CANCEL, CREATE
from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import stored_caller_of
from proxy.kernel.asgi import Send
from proxy.kernel.batch_terms import BatchTerms
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, NewEntry
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.kernel.stored_request_handler import Handler, page_size, parameters, send_json
from proxy.kernel.webhooks import webhook_meta

ENDPOINTS: Final = tuple(
    sorted(
        route.path for route in OLLAMA if route.flavor == "openai" and route.run is not None and route.body == "json"
    )
)
"""Where the requests of a batch may go: all routes of OpenAI's API that run a model."""
_PAIRS: Final = 16
_LONGEST_KEY: Final = 64
_LONGEST_VALUE: Final = 512
_TIMES: Final = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class BatchesApi:
    """Answers the routes of batches.

    Args:
        journal: where they are.
        clock: tells the time.
        kick: has the keeper look at a batch.
    """

    def __init__(self, journal: Journal, clock: Clock, kick: Callable[[str], None]) -> None:
        self._owned = Owned(journal, "openai")
        self._journal = journal
        self._clock = clock
        self._kick = kick
        self.handlers: Mapping[Route, Handler] = {
            CREATE: self._create,
            BATCHES: self._list,
            BATCH: self._show,
            CANCEL: self._cancel,
        }

    async def _create(self, exchange: Exchange, send: Send) -> None:
        terms = terms_for(exchange)
        await exchange.body()
        asked = await exchange.json()
        endpoint, named, metadata = asked.get("endpoint"), asked.get("input_file_id"), asked.get("metadata")
        if endpoint not in ENDPOINTS:
            raise _invalid(f"endpoint must be one of {', '.join(ENDPOINTS)}")
        if asked.get("completion_window") != "24h":
            raise _invalid("completion_window must be 24h")
        if metadata is not None and not _is_metadata(metadata):
            raise _invalid("metadata is an object of at most 16 texts of 512 characters, with keys of 64")
        file = await self._owned.find(exchange, named, "file") if isinstance(named, str) else None
        if file is None:
            raise no_such_file(str(named))
        if file.meta["purpose"] != "batch":
            raise _invalid("input_file_id must be a file with the purpose batch")
        told = webhook_meta(exchange.scope, terms.webhooks)
        await self._owned.check_room(exchange, terms)
        facts = {"endpoint": endpoint, "input": file.id, "metadata": metadata, "completion_window": "24h", **told}
        batch = await self._owned.add(self._entry(exchange, terms, facts))
        self._kick(batch.id)
        await send_json(send, await self._document(batch))

    def _entry(self, exchange: Exchange, terms: BatchTerms, facts: Mapping[str, Any]) -> NewEntry:
        now = self._clock.time()
        return NewEntry(
            id=f"batch_{token_hex(16)}",
            kind="batch",
            caller=stored_caller_of(exchange),
            path="/v1/batches",
            flavor="openai",
            created_at=now,
            expires_at=now + max(terms.bounds.keep, terms.bounds.window),
            meta={**facts, "terms": terms.as_meta(), "deadline": now + terms.bounds.window},
        )

    async def _list(self, exchange: Exchange, send: Send) -> None:
        asked = parameters(exchange)
        rest = behind(await self._owned.all_of(exchange, "batch"), asked.get("after"))
        page = rest[: page_size(asked.get("limit"), 20, 100)]
        documents = [await self._document(batch) for batch in page]
        await send_json(send, list_object(documents, more=len(rest) > len(page)))

    async def _show(self, exchange: Exchange, send: Send) -> None:
        await send_json(send, await self._document(await self._batch(exchange)))

    async def _cancel(self, exchange: Exchange, send: Send) -> None:
        batch = await self._batch(exchange)
        if not batch.over and status_of(batch) != "cancelling":
            batch = await self._journal.set_meta(batch.id, {"cancelling_at": self._clock.time()}) or batch
            self._kick(batch.id)
        await send_json(send, await self._document(batch))

    async def _batch(self, exchange: Exchange) -> Entry:
        named = named_in_path(exchange)
        batch = await self._owned.find(exchange, named, "batch")
        if batch is None:
            shown = named[:64].encode("unicode_escape").decode()
            raise Refused(404, f"No batch found with id '{shown}'.", code=codes.NO_SUCH_BATCH)
        return batch

    async def _document(self, batch: Entry) -> dict[str, Any]:
        """Return a batch as the SDK's type ``Batch``."""
        counts = tally(batch, await self._journal.children(batch.id))
        return batch_object(batch, counts)


def batch_object(batch: Entry, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return a batch as the SDK's type ``Batch``; `counts` are those of `tally`."""
    meta = batch.meta
    problems = meta.get("problems")
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": meta["endpoint"],
        "model": meta.get("model"),
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": meta["input"],
        "completion_window": meta["completion_window"],
        "status": status_of(batch),
        "output_file_id": meta.get("output_file_id"),
        "error_file_id": meta.get("error_file_id"),
        "created_at": int(batch.created_at),
        "expires_at": int(meta["deadline"]),
        **{f"{step}_at": _whole(meta.get(f"{step}_at")) for step in _TIMES},
        "request_counts": {
            "total": int(meta.get("total", 0)),
            "completed": counts["succeeded"],
            "failed": counts["errored"] + counts["expired"],
        },
        "metadata": meta["metadata"],
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _is_metadata(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _PAIRS
        and all(
            len(key) <= _LONGEST_KEY and isinstance(text, str) and len(text) <= _LONGEST_VALUE
            for key, text in value.items()
        )
    )


def _invalid(why: str) -> Refused:
    return Refused(400, why, code=codes.INVALID_BATCH)
