"""Putting a request into the journal, and the 202 that promises its answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_hex
from typing import Any, Final

import orjson

from middleware.defer.preferences import idempotency_key
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header, Send, respond
from proxy.kernel.clock import Clock
from proxy.kernel.entry_document import entry_document
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import DeferPart
from proxy.kernel.journal import Entry, Journal, JournalFull, NewEntry
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.stored_run import caller_of
from proxy.kernel.token_estimate import Estimate, expect

KEPT: Final = frozenset({
    b"accept", b"content-type", b"content-encoding", b"user-agent", b"anthropic-version", b"anthropic-beta",
    b"openai-beta", b"x-ollama-backend",
})  # fmt: skip
"""The fields of a request that its run has as well. No credential is among them."""
RETRY_AFTER: Final = {"retry-after": "30"}


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which requests are kept: the options of `defer`."""

    priority: int
    weight: float
    keep: float
    per_identity: int
    total: int
    max_body: int
    max_answer: int


class Acceptance:
    """Accepts requests on the terms of one policy."""

    def __init__(self, journal: Journal, clock: Clock, terms: Terms) -> None:
        self._journal = journal
        self._clock = clock
        self._terms = terms

    async def accept(self, exchange: Exchange, send: Send, *, meta: Mapping[str, Any] | None = None) -> None:
        """Put the request into the journal and answer 202; raises Refused (400, 413, 422, 429, 503, 507)."""
        entry = await self.put(exchange, meta=meta)
        fields: list[Header] = [
            (b"content-type", b"application/json"),
            (b"location", f"/-/requests/{entry.id}".encode()),
            (b"preference-applied", b"respond-async"),
            (b"retry-after", b"2"),
        ]
        document = entry_document(entry, self._journal)
        await respond(send, 202, fields, orjson.dumps(document))

    async def put(
        self,
        exchange: Exchange,
        *,
        name: str | None = None,
        body: bytes | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Put the request, with another `body` where one is given, into the journal, and return its entry."""
        terms, scope = self._terms, exchange.scope
        sent = await exchange.body() if body is None else body
        if len(sent) > terms.max_body:
            raise Refused(
                413,
                f"the body has {len(sent)} bytes, and a deferred request may have {terms.max_body}",
                code=codes.DEFERRED_BODY_TOO_LARGE,
            )
        key = idempotency_key(scope["headers"])
        digest = sha256(b"\0".join((scope["method"].encode(), scope["path"].encode(), sent))).hexdigest()
        now = self._clock.time()
        new = NewEntry(
            id=name or token_hex(16),
            kind="request",
            caller=caller_of(exchange),
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=tuple((name.decode(), text.decode("latin-1")) for name, text in _fields(exchange) if name in KEPT),
            body=sent,
            flavor=exchange.flavor,
            model=exchange.model.short if exchange.model else None,
            cost=_cost(exchange),
            weight=terms.weight,
            priority=terms.priority,
            created_at=now,
            expires_at=now + terms.keep,
            idempotency_key=key,
            most_per_owner=terms.per_identity,
            most=terms.total,
            most_answer=terms.max_answer,
            meta={**(meta or {}), "digest": digest},
        )
        entry = await self._add(new)
        if entry.id != new.id and entry.meta.get("digest") != digest:
            raise Refused(
                422,
                "another request was sent with this Idempotency-Key; use a new key for each request",
                code=codes.IDEMPOTENCY_KEY_REUSED,
            )
        exchange.part(DeferPart).deferred = entry.id
        return entry

    async def _add(self, new: NewEntry) -> Entry:
        try:
            return await self._journal.add(new)
        except JournalFull as full:
            if full.bound == "identity":
                message = (
                    f"{self._terms.per_identity} deferred requests of yours are open, which is as many as may; wait "
                    "until one has ended, or cancel one"
                )
                raise Refused(429, message, code=codes.TOO_MANY_DEFERRED, headers=RETRY_AFTER) from None
            raise Refused(507, f"no more requests can be kept now: {full}", code=codes.JOURNAL_FULL) from None
        except StoreUnavailable:
            message = "the journal does not answer, so that the request cannot be kept; try again in 5 s"
            raise Refused(503, message, code=codes.JOURNAL_UNAVAILABLE, headers={"retry-after": "5"}) from None


def _fields(exchange: Exchange) -> list[Header]:
    """Return the fields of a request, with the backend that its path named."""
    fields: list[Header] = list(exchange.scope["headers"])
    if exchange.pinned is not None and not any(name == b"x-ollama-backend" for name, _ in fields):
        fields.append((b"x-ollama-backend", exchange.pinned.encode("latin-1")))
    return fields


def _cost(exchange: Exchange) -> int:
    route = exchange.route
    if route is None or route.body != "json":
        return 1
    return max(1, expect(route, exchange.document or {}, exchange.prompt_size, Estimate()).total)
