"""Remove the models that a caller may not use from the answers that list models."""

from collections.abc import Callable
from typing import Final

import orjson

from proxy.kernel import json_bounds
from proxy.kernel.asgi import Message, Send, without
from proxy.kernel.errors import BadAnswer
from proxy.kernel.route import ModelList

_LENGTH: Final = frozenset({b"content-length"})
_LIST_LIMIT: Final = 32 * 2**20


class ListFilter:
    """A `send` that holds an answer back until it is complete, and removes hidden models from its list."""

    def __init__(self, allows: Callable[[str], bool], lists: ModelList, send: Send) -> None:
        self._allows = allows
        self._lists = lists
        self._send = send
        self._held: list[Message] = []
        self._size = 0

    async def __call__(self, message: Message) -> None:
        """Hold the message back, or send it on where it belongs to no list."""
        if not self._held and (message["type"] != "http.response.start" or message["status"] != 200):
            await self._send(message)
            return
        self._held.append(message)
        self._size += len(message.get("body", b""))
        if self._size > _LIST_LIMIT:
            raise BadAnswer("the backend's list of models is too long to be filtered")
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            for kept in self._filtered():
                await self._send(kept)

    def _filtered(self) -> list[Message]:
        """Return the messages with hidden models removed; unchanged if there are none."""
        start, *rest = self._held
        text = b"".join(message.get("body", b"") for message in rest)
        try:
            document = json_bounds.loads(text)
            entries = document[self._lists.member] or []
            kept = [entry for entry in entries if self._is_shown(entry)]
        except (ValueError, TypeError, KeyError, AttributeError):
            # Show nothing rather than everything.
            raise BadAnswer("the backend's list of models cannot be read") from None
        if len(kept) == len(entries):
            return self._held
        document[self._lists.member] = kept
        body = orjson.dumps(document) + (b"\n" if text.endswith(b"\n") else b"")
        headers = [*without(start.get("headers", ()), _LENGTH), (b"content-length", b"%d" % len(body))]
        return [{**start, "headers": headers}, {"type": "http.response.body", "body": body, "more_body": False}]

    def _is_shown(self, entry: dict[str, str]) -> bool:
        names = [value for member, value in entry.items() if member in self._lists.named]
        return bool(names) and all(map(self._allows, names))
