"""An entry of the journal as its owner sees it, in JSON; the same in the flavor of every API."""

from datetime import UTC, datetime
from typing import Any

from proxy.kernel.journal import Entry


def address_of(id: str) -> str:
    """Return the path of an entry."""
    return f"/-/requests/{id}"


def answer_of(id: str) -> str:
    """Return the path of the answer of an entry."""
    return f"/-/requests/{id}/answer"


def receipt(entry: Entry, *, durable: bool) -> dict[str, Any]:
    """Return what a client is told whose request was accepted.

    `id`, `state`, `position` (queued entries that go before it; null where that is unknown), `answer` (a path),
    `expires_at` (RFC 3339), `durable`, and where that is false a `note` that says what follows from it.
    """
    document: dict[str, Any] = {
        "id": entry.id,
        "state": entry.state,
        "position": entry.position,
        "answer": answer_of(entry.id),
        "expires_at": time_text(entry.expires_at),
        "durable": durable,
    }
    if not durable:
        document["note"] = "kept in memory: it is lost when the proxy stops"
    return document


def description(entry: Entry, *, durable: bool) -> dict[str, Any]:
    """Return all that its owner may know of an entry, but its words: `receipt` and how it went so far."""
    return receipt(entry, durable=durable) | {
        "kind": entry.kind,
        "method": entry.method,
        "path": entry.path,
        "model": entry.model,
        "attempts": entry.attempts,
        "created_at": time_text(entry.created_at),
        "started_at": time_text(entry.started_at),
        "ended_at": time_text(entry.ended_at),
        "status": entry.status,
        "recorded": entry.recorded,
        "usage": dict(entry.usage) or None,
        "error": entry.error,
    }


def time_text(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds; None for None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
