"""The words of a conversation, taken out of requests and answers of all four APIs.

Only text: images, tools and what calls them are left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

_ASKED: Final = ("system", "instructions", "prompt", "suffix", "input")
LONGEST_RECORD: Final = 64 * 1024
"""Bytes of a record of an answer that is not over yet; a longer one is left out."""


def prompt_of(document: Mapping[str, Any], limit: int) -> str:
    """Return what a request says to the model, each message on lines of its own behind its role.

    At most `limit` characters, counted from the end: what was said last.
    """
    parts = [_text(document.get(name)) for name in (*_ASKED, "messages")]
    return "\n".join(filter(None, parts))[-limit:]


class Listener:
    """Gathers the words of an answer while it is streamed, up to a bound.

    Args:
        limit: characters; what comes behind is not looked at.
    """

    __slots__ = ("_left", "_limit", "_rest", "_words")

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._rest = b""
        self._words: list[str] = []

    @property
    def full(self) -> bool:
        """Whether nothing more is wanted."""
        return self._left <= 0

    def hear(self, chunk: bytes) -> None:
        """Take the next bytes of the answer."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > LONGEST_RECORD:
            self._rest = b""

    def words(self) -> str:
        """Return what was said; the answer is over."""
        self._take(self._rest)
        self._rest = b""
        return "".join(self._words)[: self._limit]

    def _take(self, line: bytes) -> None:
        line = line.strip().removeprefix(b"data:").strip()
        if self._left > 0 and line.startswith(b"{"):
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                return
            for words in _said(record):
                self._words.append(words)
                self._left -= len(words)


def _said(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of one record: a line of NDJSON, the data of an event, or a whole answer."""
    # Ollama
    yield _text(record.get("response"))
    yield _text(_within(record, "message").get("content"))
    # OpenAI
    for choice in _each(record, "choices"):
        yield _text(choice.get("text"))
        yield _text(_within(choice, "delta").get("content"))
        yield _text(_within(choice, "message").get("content"))
    # OpenAI's responses
    if record.get("type") == "response.output_text.delta":
        yield _text(record.get("delta"))
    for item in _each(record, "output"):
        yield _text(item.get("content"))
    # Anthropic
    yield _text(_within(record, "delta").get("text"))
    yield _text(record.get("content"))


def _text(content: object) -> str:
    """Return the text of a message's content: text, or parts of which some are text, or messages."""
    if isinstance(content, str):
        return content
    return "\n".join(filter(None, map(_part, content))) if isinstance(content, list) else ""


def _part(part: object) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    if "role" in part:
        return f"{part['role']}: {_text(part.get('content'))}"
    return _text(part.get("text"))


def _within(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _each(record: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    found = record.get(name)
    for item in found if isinstance(found, list) else ():
        if isinstance(item, dict):
            yield item
