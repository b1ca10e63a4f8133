"""The status of several workers as that of one proxy.

Each worker counts its own requests, connections and bodies, and looks at the same backends, limits and policy file. So
the first are summed, and of the second the worst is shown.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from proxy.kernel.peers import Answer
from proxy.ops.document_types import Readiness, Status
from proxy.ops.limits_in_use import SHOWN

Document = Mapping[str, Any]

KEPT: Final = 100
"""The most recent requests of all workers together that are shown."""
_STATES: Final = ("up", "draining", "suspect", "ejected", "down")
"""The states of a backend, the worst last."""


def one_status(answers: Sequence[Answer]) -> Status | dict[str, Any]:
    """Return the status of all workers; a worker that said nothing is in it by its number."""
    own = next((answer.said for answer in answers if answer.mine), None)
    if len(answers) == 1 and own is not None:
        return own  # type: ignore[no-any-return]  # as it is: nobody else serves
    said: list[Document] = [answer.said for answer in answers if answer.worker and answer.said is not None]
    first: Document = own if own is not None else said[0]
    absent = [_absent(answer.worker) for answer in answers if answer.worker and answer.said is None]
    workers = [worker for one in said for worker in one["workers"]]
    return {
        **first,
        "uptime": max(one["uptime"] for one in said),
        "ready": next((one["ready"] for one in said if one["ready"]["ready"]), first["ready"]),
        "backends": _backends(first, said),
        "queue": _queue([one["queue"] for one in said]),
        "requests": sorted((each for one in said for each in one["requests"]), key=lambda each: each["started"]),
        "limits": _limits(said),
        "bodies": _bodies([one["bodies"] for one in said]),
        "log_lines_dropped": sum(one["log_lines_dropped"] for one in said),
        "recent": None if first["recent"] is None else _recent(each for one in said for each in one["recent"] or ()),
        "workers": sorted([*workers, *absent], key=lambda worker: worker["number"]),
    }


def one_readiness(answers: Sequence[Answer], own: Readiness) -> Readiness:
    """Return whether any worker can serve requests, with its reason; where none can, what this one says."""
    for answer in answers:
        if not answer.mine and answer.said is not None and answer.said["ready"]:
            return Readiness(True, answer.said["reason"], answer.said.get("fleet"))
    return own


def _absent(number: int) -> dict[str, Any]:
    return {"number": number, "pid": None, "uptime": 0.0, "requests": 0, "connections": 0}


def _backends(first: Document, said: Iterable[Document]) -> list[dict[str, Any]]:
    """Merge what the workers see of each backend that the first one has."""
    seen: dict[str, list[Document]] = {}
    for one in said:
        for backend in one["backends"]:
            seen.setdefault(backend["name"], []).append(backend)
    return [_backend(backend, seen[backend["name"]]) for backend in first["backends"]]


def _backend(mine: Document, seen: Sequence[Document]) -> dict[str, Any]:
    worst = max(seen, key=lambda one: _STATES.index(one["state"]))
    return {
        **mine,
        **{name: worst[name] for name in ("state", "reason", "since")},
        "active": sum(one["active"] for one in seen),
        "permits": None if mine.get("permits") is None else sum(one["permits"] or 0 for one in seen),
        "tokens_per_second": round(sum(one["tokens_per_second"] for one in seen), 1),
        "last_error": mine["last_error"] or next((one["last_error"] for one in seen if one["last_error"]), None),
        "resident": _resident(seen),
    }


def _resident(seen: Iterable[Document]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in seen:
        for model in one["resident"]:
            known = found.setdefault(model["name"], {**model, "active": 0})
            known["active"] += model["active"]
            if known["loading"] and not model["loading"]:
                found[model["name"]] = {**model, "active": known["active"]}
    return [found[name] for name in sorted(found)]


def _queue(queues: Sequence[Document]) -> dict[str, Any]:
    waiting: Counter[str] = Counter()
    for queue in queues:
        for tenant in queue["tenants"]:
            waiting[tenant["tenant"]] += tenant["waiting"]
    return {
        "waiting": waiting.total(),
        "oldest": max(queue["oldest"] for queue in queues),
        "tenants": [
            {"tenant": tenant, "waiting": number}
            for tenant, number in sorted(waiting.items(), key=lambda item: (-item[1], item[0]))
        ],
    }


def _limits(said: Iterable[Document]) -> list[Document]:
    """Return the limits that any worker used lately; the store has one counter for all, so the latest look is right."""
    found: dict[tuple[str, ...], Document] = {}
    for one in said:
        for limit in one["limits"]:
            key = (limit["limit"], limit["whom"], limit["unit"], limit["window"] or "")
            if key not in found or limit["used"] > found[key]["used"]:
                found[key] = limit
    return sorted(found.values(), key=lambda limit: limit["used"] / limit["amount"], reverse=True)[:SHOWN]


def _bodies(bodies: Sequence[Document]) -> dict[str, int]:
    return {
        "held": sum(one["held"] for one in bodies),
        "total": max(one["total"] for one in bodies),
        "callers": sum(one["callers"] for one in bodies),
        "largest": max(one["largest"] for one in bodies),
    }


def _recent(requests: Iterable[Document]) -> list[Document]:
    return sorted(requests, key=_ended, reverse=True)[:KEPT]


def _ended(request: Document) -> float:
    seconds: float = request["seconds"]
    return datetime.fromisoformat(request["started"]).timestamp() + seconds
