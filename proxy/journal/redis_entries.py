"""What the scripts of the journal in Redis keep of an entry, and what they return of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from proxy.kernel.journal import Entry, NewEntry, StoredCaller

META: Final = "m:"
"""Stands before the name of each member of `Entry.meta`, which is a field of its own: so it can be changed alone."""

View = Sequence[Any]
"""What ``common.lua: shown`` returns: the fields by turns with their values, bytes of the record, the position (-1 for
none), and 1 where the entry has expired and was not swept yet."""


def turn_tenant(caller: StoredCaller) -> str:
    """Return who takes turns for a caller: the tenant; one without a tenant is a tenant of its own."""
    return f"of {caller.tenant}" if caller.tenant is not None else caller.owner


def fields_of(new: NewEntry) -> list[str | int | float | bytes]:
    """Return the fields of a new entry by turns with their values."""
    document = {
        "caller": new.caller,
        "method": new.method,
        "path": new.path,
        "query": new.query,
        "headers": new.headers,
        "flavor": new.flavor,
        "model": new.model,
    }
    fields: dict[str, str | int | float | bytes] = {
        "id": new.id,
        "kind": new.kind,
        "owner": new.caller.owner,
        "tenant": turn_tenant(new.caller),
        "document": orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS),
        "cost": new.cost,
        "weight": repr(new.weight),
        "priority": new.priority,
        "created": repr(new.created_at),
        "expires": repr(new.expires_at),
        "most": new.most_answer,
    }
    if new.parent is not None:
        fields["parent"] = new.parent
    return _flat(fields) + meta_fields(new.meta, META)


def meta_fields(meta: Mapping[str, Any], prefix: str = "") -> list[str | int | float | bytes]:
    """Return the members of a meta by turns with their values as JSON."""
    return _flat({f"{prefix}{name}": orjson.dumps(value) for name, value in meta.items()})


def entry_of(view: View, expired_for: float) -> Entry:
    """Return the entry that a script has shown.

    Args:
        view: what the script returned.
        expired_for: seconds for which an entry that did not run in time is listed as ``expired``.
    """
    flat, recorded, position, late = view
    fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    document = orjson.loads(fields["document"])
    expires = float(fields["expires"])
    return Entry(
        id=fields["id"].decode(),
        kind=fields["kind"].decode(),
        state="expired" if late else fields["state"].decode(),
        caller=StoredCaller(**document["caller"]),
        method=document["method"],
        path=document["path"],
        query=document["query"],
        headers=_pairs(document["headers"]),
        flavor=document["flavor"],
        model=document["model"],
        parent=_text(fields.get("parent")),
        cost=int(fields["cost"]),
        priority=int(fields["priority"]),
        created_at=float(fields["created"]),
        expires_at=expires + expired_for if late else expires,
        started_at=_number(fields.get("started")),
        ended_at=expires if late else _number(fields.get("ended")),
        attempts=int(fields["attempts"]),
        fence=int(fields["fence"]),
        status=int(fields["status"]) if "status" in fields else None,
        answer_headers=_pairs(orjson.loads(fields.get("answer", b"[]"))),
        recorded=recorded,
        read="read" in fields,
        error=_text(fields.get("error")),
        usage=orjson.loads(fields.get("usage", b"{}")),
        position=position if position >= 0 else None,
        meta={name.removeprefix(META): orjson.loads(value) for name, value in fields.items() if name.startswith(META)},
    )


def _flat(fields: Mapping[str, str | int | float | bytes]) -> list[str | int | float | bytes]:
    return [part for pair in fields.items() for part in pair]


def _pairs(pairs: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple([(name, value) for name, value in pairs])


def _text(value: bytes | None) -> str | None:
    return value.decode() if value is not None else None


def _number(value: bytes | None) -> float | None:
    return float(value) if value is not None else None
