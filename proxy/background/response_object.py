"""The Response object of a response that no backend has made: one that waits, runs, was cancelled or has failed.

Its members are those of the `openai` SDK's type ``Response``; what the request said of them is repeated.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from proxy.kernel.journal import Entry
from proxy.kernel.response_items import items_of

Status = Literal["queued", "in_progress", "cancelled", "failed"]
_TOLD: Final[Mapping[str, tuple[type | tuple[type, ...], Any]]] = {
    "instructions": ((str, list), None),
    "max_output_tokens": (int, None),
    "max_tool_calls": (int, None),
    "metadata": (dict, {}),
    "parallel_tool_calls": (bool, True),
    "previous_response_id": (str, None),
    "prompt_cache_key": (str, None),
    "reasoning": (dict, None),
    "safety_identifier": (str, None),
    "service_tier": (str, "default"),
    "temperature": ((int, float), None),
    "text": (dict, {"format": {"type": "text"}}),
    "tool_choice": ((str, dict), "auto"),
    "tools": (list, []),
    "top_logprobs": (int, None),
    "top_p": ((int, float), None),
    "truncation": (str, "disabled"),
    "user": (str, None),
}
"""Members that repeat the request: the types that they may have, and what stands there where it says nothing."""


def response_object(
    entry: Entry, request: Mapping[str, Any], status: Status, *, why: str | None = None
) -> dict[str, Any]:
    """Return the object of a response without output.

    Args:
        entry: its entry.
        request: the body of its request.
        status: its status.
        why: why it has failed; None where it has not.
    """
    told = {name: _of_type(request.get(name), types, other) for name, (types, other) in _TOLD.items()}
    return {
        "id": entry.id,
        "object": "response",
        "created_at": int(entry.created_at),
        "completed_at": None,
        "status": status,
        "background": True,
        "error": None if why is None else {"code": "server_error", "message": why},
        "incomplete_details": None,
        "model": request.get("model") or entry.model or "",
        "output": [],
        "store": True,
        "usage": None,
        **told,
    }


def input_items(id: str, asked: object) -> list[dict[str, Any]]:
    """Return what a response answers, as the items of a list: each with an id, and texts as parts of a message.

    Args:
        id: the id of the response.
        asked: the input of its request, a text or a list of items.
    """
    found = []
    for number, item in enumerate(items_of(asked)):
        if not isinstance(item, dict):
            continue
        shown = {"id": f"msg_{id[-24:]}_{number}", **item}
        content = shown.get("content")
        if isinstance(content, str):
            kind = "output_text" if shown.get("role") == "assistant" else "input_text"
            part: dict[str, Any] = {"type": kind, "text": content}
            shown["content"] = [part | {"annotations": []} if kind == "output_text" else part]
        if "role" in shown:
            shown.setdefault("type", "message")
        shown.setdefault("status", "completed")
        found.append(shown)
    return found


def _of_type(value: Any, types: type | tuple[type, ...], other: Any) -> Any:
    if isinstance(value, bool) and types is not bool:
        return other
    return value if isinstance(value, types) else other
