"""An entry of the journal as its owner sees it: its state, without its words."""

from typing import Any

from proxy.kernel.journal import Entry, Journal


def entry_document(entry: Entry, journal: Journal) -> dict[str, Any]:
    """Return the state of an entry as JSON; times are seconds since 1970."""
    return {
        "id": entry.id,
        "state": entry.state,
        "position": entry.position,
        "method": entry.method,
        "path": entry.path,
        "model": entry.model,
        "attempts": entry.attempts,
        "status": entry.status,
        "recorded": entry.recorded,
        "error": entry.error,
        "usage": dict(entry.usage),
        "created_at": entry.created_at,
        "started_at": entry.started_at,
        "ended_at": entry.ended_at,
        "expires_at": entry.expires_at,
        "answer": f"/-/requests/{entry.id}/answer",
        "durable": journal.durable,
    }
