"""The message of a call and its signature, by Standard Webhooks 1.0 (symmetric: ``v1``)."""

import base64
import hmac
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from proxy.kernel.journal import Entry


def message_id(entry: Entry) -> str:
    """Return the id of a message: the same for each attempt to deliver it, another where the entry ran again."""
    return f"msg_{entry.id}_{entry.fence}"


def message_of(entry: Entry) -> bytes:
    """Return the message about an entry that is over. It has none of anybody's words."""
    data: dict[str, Any] = {
        "id": entry.id,
        "state": entry.state,
        "status": entry.status,
        "error": entry.error.partition(":")[0] if entry.error is not None else None,
        "model": entry.model,
        "attempts": entry.attempts,
        "usage": dict(entry.usage),
        "created_at": _stamp(entry.created_at),
        "ended_at": _stamp(entry.ended_at),
    }
    if entry.kind == "batch":
        data["counts"] = entry.meta.get("counts")
    ended = _stamp(entry.ended_at) or _stamp(entry.created_at)
    return orjson.dumps({"type": f"{entry.kind}.{entry.state}", "timestamp": ended, "data": data})


def signed(key: bytes, id: str, seconds: int, message: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a call at a time (seconds since 1970)."""
    made = hmac.digest(key, f"{id}.{seconds}.".encode() + message, sha256)
    return [
        (b"webhook-id", id.encode()),
        (b"webhook-timestamp", str(seconds).encode()),
        (b"webhook-signature", b"v1," + base64.b64encode(made)),
    ]


def _stamp(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
