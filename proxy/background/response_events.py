"""The events of a response as they were recorded, under the id that the proxy gave the response.

A client has the id of a response before any backend has made one, and a backend's own id (six digits in Ollama) may
come twice. So the id of the response object is the one thing that is changed in an event: the value of its ``id``
member, and no other byte. No text can be taken for that member, as a quote within a text is escaped.
"""

import re
from typing import Any, Final

import orjson

from proxy.kernel.json_members import members_of

LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The types of the event that ends a response, which holds the whole object."""
_BLANK: Final = re.compile(rb"\r?\n\r?\n")


class Events:
    """Reads the record of a response, a part at a time.

    Args:
        id: the id of the response.
        after: events of this number, and those before it, are left out; None leaves none out.

    Attributes:
        last: the highest number of an event so far; -1 where there was none.
        whole: the response object that ended the record, as the backend wrote it but for its id; None before that.
    """

    def __init__(self, id: str, after: int | None = None) -> None:
        self._id = id.encode()
        self._after = -1 if after is None else after
        self._theirs: re.Pattern[bytes] | None = None
        self._rest = b""
        self.last = -1
        self.whole: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """Take a part of the record; return the events that are complete with it and were asked for."""
        text, found, start = self._rest + data, [], 0
        for end in _BLANK.finditer(text):
            event = self._event(text[start : end.end()])
            if event is not None:
                found.append(event)
            start = end.end()
        self._rest = text[start:]
        return b"".join(found)

    def _event(self, event: bytes) -> bytes | None:
        """Return an event under the proxy's id; None where it was not asked for."""
        at = event.find(b"data:")
        document = _object(event[at + 5 :]) if at >= 0 else None
        if document is None:
            return event if self._after < 0 else None
        response = document.get("response")
        if isinstance(response, dict) and isinstance(theirs := response.get("id"), str):
            if self._theirs is None:
                self._theirs = id_member(theirs)
            event = self._theirs.sub(rb"\g<1>" + self._id + b'"', event)
            if document.get("type") in LAST:
                self.whole = members_of(event[event.index(b"{", at) :])["response"]
        number = document.get("sequence_number")
        if not isinstance(number, int):
            return event if self._after < 0 else None
        self.last = max(self.last, number)
        return event if number > self._after else None


def id_member(id: str) -> re.Pattern[bytes]:
    """Return what finds the member ``id`` with the value `id` in a JSON text; its first group is all before the value.

    It finds no text of a model that looks like it: within a text, quotes are escaped.
    """
    return re.compile(rb'("id"\s*:\s*")' + re.escape(orjson.dumps(id)[1:-1]) + b'"')


def renamed(whole: bytes, id: str) -> bytes:
    """Return a response object with another id, and every other byte as it was."""
    document = _object(whole)
    theirs = document.get("id") if document is not None else None
    if not isinstance(theirs, str):
        return whole
    return id_member(theirs).sub(rb"\g<1>" + id.encode() + b'"', whole)


def failed_event(response: dict[str, Any], number: int) -> bytes:
    """Return the event with which a stream ends that no backend has ended."""
    document = {"type": "response.failed", "sequence_number": number, "response": response}
    return b"event: response.failed\ndata: " + orjson.dumps(document) + b"\n\n"


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
