"""Accept a request into the journal, to run when a slot is free: on which terms, within which bounds.

`entry_of` makes the entry of a request that a client sends, `new_entry` that of any other, and `add_entry` puts one in.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, JournalFull, NewEntry, StoredCaller
from proxy.kernel.route import Route
from proxy.kernel.routes import BACKEND
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.token_estimate import Estimate, expect, expect_form

ATTEMPTS: Final = "attempts"
"""The member of an entry's meta that says how often it may be begun."""
RUN_BY: Final = "run_by"
"""The member of an entry's meta that says until when it must have begun, in seconds since 1970."""
DIGEST: Final = "digest"
"""The member of an entry's meta by which a request with the same idempotency key is found to be another one."""
CLIENT_BUSY: Final = 5
"""Seconds after which a caller with too many open entries may try again."""

_KEPT: Final = frozenset({b"content-type", b"accept", b"user-agent", b"anthropic-version", b"anthropic-beta"})
"""The header fields of a request that its run needs. None of them is a credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferTerms:
    """The terms on which requests are accepted. The plugin `defer` alone has defaults.

    Attributes:
        priority: of the entry among others, and of its run in the queue.
        keep: seconds after which the entry is dropped, whatever became of it.
        wait: seconds within which it must begin to run; None for as long as it is kept.
        attempts: how often it may be begun.
        per_identity: open entries that one caller may have.
        total: open entries in all.
        max_body: bytes of a request.
        max_answer: bytes of an answer.
        weight: the tenant's share of the turns.
        estimate: the tokens that an entry is expected to take.
    """

    priority: int
    keep: float
    wait: float | None
    attempts: int
    per_identity: int
    total: int
    max_body: int
    max_answer: int
    weight: float
    estimate: Estimate


def stored_caller_of(exchange: Exchange) -> StoredCaller:
    """Return who sent the request, to be stored with it."""
    return StoredCaller(
        identity=exchange.identity,
        tenant=exchange.tenant,
        policy=exchange.policy,
        claims=dict(exchange.claims),
        method=exchange.known_by,
        client=exchange.client,
        end_user=exchange.end_user,
    )


def reader_of(exchange: Exchange) -> StoredCaller:
    """Return who may read what is kept of a request, without the facts that only a run of it needs."""
    return StoredCaller(
        identity=exchange.identity, tenant=exchange.tenant, policy=exchange.policy, client=exchange.client
    )


def new_id(prefix: str = "") -> str:
    """Return an id for an entry, which nobody can guess."""
    return prefix + secrets.token_hex(16)


def new_entry(
    terms: DeferTerms,
    caller: StoredCaller,
    *,
    now: float,
    path: str,
    body: bytes,
    id: str | None = None,
    flavor: str = "ollama",
    model: str | None = None,
    cost: int = 1,
    meta: Mapping[str, Any] | None = None,
) -> NewEntry:
    """Return a request as an entry; raises Refused (413) where its body is longer than it may be."""
    if len(body) > terms.max_body:
        raise Refused(
            413,
            f"a request that is to run later may have {terms.max_body} bytes, and this one has {len(body)}; "
            "send it without `Prefer: respond-async`, or shorter",
            code=codes.DEFERRED_TOO_LARGE,
        )
    run_by = {} if terms.wait is None else {RUN_BY: now + terms.wait}
    return NewEntry(
        id=id or new_id(),
        kind="request",
        caller=caller,
        path=path,
        body=body,
        flavor=flavor,
        model=model,
        cost=max(1, cost),
        weight=terms.weight,
        priority=terms.priority,
        created_at=now,
        expires_at=now + terms.keep,
        most_per_owner=terms.per_identity,
        most=terms.total,
        most_answer=terms.max_answer,
        meta={ATTEMPTS: terms.attempts, **run_by, **(meta or {})},
    )


def entry_of(
    exchange: Exchange,
    route: Route,
    terms: DeferTerms,
    *,
    now: float,
    body: bytes,
    id: str | None = None,
    key: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> NewEntry:
    """Return the entry of a request that a client sends; raises Refused (413).

    Args:
        exchange: the request. Its `document` may already be edited for a backend.
        route: its route.
        terms: the terms on which it is accepted.
        now: seconds since 1970.
        body: its body, as the client sent it, decoded of its content encoding.
        id: the id of the entry; None for a new one.
        key: its idempotency key; None for none.
        meta: further members of the entry's meta.
    """
    scope = exchange.scope
    digest = sha256(b"%s %s\n" % (scope["path"].encode(), scope["query_string"])).hexdigest()[:16]
    digest += sha256(body).hexdigest()
    new = new_entry(
        terms,
        stored_caller_of(exchange),
        now=now,
        path=scope["path"],
        body=body,
        id=id,
        flavor=exchange.flavor,
        model=exchange.model.short if exchange.model is not None else None,
        cost=_cost(exchange, route, terms.estimate),
        meta={DIGEST: digest, **(meta or {})},
    )
    query = scope["query_string"].decode("latin-1")
    return replace(new, method=scope["method"], query=query, headers=_headers(exchange), idempotency_key=key)


async def add_entry(journal: Journal, new: NewEntry) -> Entry:
    """Put an entry into the journal, and return it, or the one that its owner has under the same idempotency key.

    Raises Refused: 422 where that one is another request, 429 where the caller has as many open entries as he may, 507
    where the journal is full, 503 where it does not answer.
    """
    try:
        return _same(await journal.add(new), new)
    except JournalFull as full:
        raise _no_room(full, new) from full
    except StoreUnavailable as error:
        raise journal_unavailable() from error


async def known_entry(journal: Journal, new: NewEntry) -> Entry | None:
    """Return the entry that the owner of `new` has under the same idempotency key; None where there is none.

    Adds nothing, as there is room for none. Raises Refused (422, 503) as `add_entry` does.
    """
    try:
        return _same(await journal.add(replace(new, most_per_owner=0)), new)
    except JournalFull:
        return None
    except StoreUnavailable as error:
        raise journal_unavailable() from error


def _same(entry: Entry, new: NewEntry) -> Entry:
    """Return the entry that has the idempotency key of `new`; raises Refused (422) where it is another request."""
    if entry.id != new.id and entry.meta.get(DIGEST) != new.meta.get(DIGEST):
        raise Refused(
            422,
            "the Idempotency-Key belongs to another request of yours; send each request with a key of its own",
            code=codes.IDEMPOTENCY_KEY_REUSED,
        )
    return entry


def journal_unavailable() -> Refused:
    """Return the error for a journal that does not answer."""
    return Refused(
        503,
        "the journal, which keeps requests that run later, does not answer; try again shortly",
        code=codes.JOURNAL_UNAVAILABLE,
        headers={"retry-after": "2"},
    )


def _no_room(full: JournalFull, new: NewEntry) -> Refused:
    wait = {"retry-after": str(CLIENT_BUSY)}
    if full.bound == "identity":
        return Refused(
            429,
            f"{new.most_per_owner} requests of yours wait or run already, which is as many as may; "
            "try again when one has ended, or cancel one: DELETE /-/requests/ID",
            code=codes.DEFERRED_SHARE_EXCEEDED,
            headers=wait,
        )
    return Refused(
        507,
        "no further request can be kept to run later: the journal is full; try again later",
        code=codes.JOURNAL_FULL,
        headers=wait,
    )


def _cost(exchange: Exchange, route: Route, estimate: Estimate) -> int:
    if route.body == "multipart":
        return expect_form(exchange.bytes_in, estimate).total
    return expect(route, exchange.document or {}, exchange.prompt_size, estimate).total


def _headers(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    """Return the header fields that the run needs, as text."""
    kept: list[Header] = [pair for pair in exchange.scope["headers"] if pair[0] in _KEPT]
    if exchange.pinned is not None:
        kept.append((BACKEND, exchange.pinned.encode("latin-1", "replace")))
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in kept)
