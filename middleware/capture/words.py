"""Extract the text of a conversation from requests and answers of all four APIs.

Only text is extracted: images, tools and tool calls are left out.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from proxy.kernel import json_bounds

_ASKED: Final = ("system", "instructions", "prompt", "suffix", "input")
LONGEST_RECORD: Final = 64 * 1024
"""Maximum size in bytes of an incomplete record of an answer; a longer record is left out."""


MOST_PARTS: Final = 10_000
"""Maximum number of parts of a conversation that are read: messages, and parts of messages."""
DEEPEST: Final = 4
"""Maximum nesting of messages and parts; the four APIs use two levels."""


def prompt_of(document: Mapping[str, Any], limit: int) -> str:
    """Return the text of a request's prompt, each message on lines of its own after its role.

    Returns the last `limit` characters at most, and builds no more text than that.
    """
    said = (text for name in reversed((*_ASKED, "messages")) for text in _backwards(document.get(name)))
    texts: list[str] = []
    left = limit
    for text in islice(said, MOST_PARTS):
        if left < 0:
            break
        if text:
            texts.append(text[-left:] if left else "")  # keep the line end if only that fits
            left -= len(texts[-1]) + 1
    return "\n".join(reversed(texts))


class Listener:
    """Gathers the text of an answer while it is streamed, up to a bound.

    Args:
        limit: maximum number of characters; the rest is ignored.
    """

    __slots__ = ("_begun", "_left", "_limit", "_size", "_words")

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._begun: list[bytes] = []  # the pieces of an incomplete record
        self._size = 0
        self._words: list[str] = []

    @property
    def full(self) -> bool:
        """Return whether the limit is reached."""
        return self._left <= 0

    def hear(self, chunk: bytes) -> None:
        """Take the next bytes of the answer."""
        whole, newline, rest = chunk.rpartition(b"\n")
        if newline:
            for line in b"".join([*self._begun, whole]).split(b"\n"):
                self._take(line)
            self._begun.clear()
            self._size = 0
        self._begun.append(rest)
        self._size += len(rest)
        if self._size > LONGEST_RECORD:
            self._begun.clear()
            self._size = 0

    def words(self) -> str:
        """Return the text of the answer; call it after the last chunk."""
        self._take(b"".join(self._begun))
        self._begun.clear()
        return "".join(self._words)[: self._limit]

    def _take(self, line: bytes) -> None:
        line = line.strip().removeprefix(b"data:").strip()
        if self._left > 0 and line.startswith(b"{"):
            try:
                record = json_bounds.loads(line)
            except ValueError:
                return
            for words in _said(record):
                self._words.append(words)
                self._left -= len(words)


def _said(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of one record: a line of NDJSON, the data of an event, or a whole answer."""
    # Ollama
    yield _text(record.get("response"))
    yield _text(_within(record, "message").get("content"))
    # OpenAI
    for choice in _each(record, "choices"):
        yield _text(choice.get("text"))
        yield _text(_within(choice, "delta").get("content"))
        yield _text(_within(choice, "message").get("content"))
    # OpenAI's responses API
    if record.get("type") == "response.output_text.delta":
        yield _text(record.get("delta"))
    for item in _each(record, "output"):
        yield _text(item.get("content"))
    # Anthropic
    yield _text(_within(record, "delta").get("text"))
    yield _text(record.get("content"))


def _text(content: object) -> str:
    """Return the text of a message's content, which is a text, a list of parts, or a list of messages."""
    if isinstance(content, str):
        return content
    return "\n".join(reversed(list(filter(None, islice(_backwards(content), MOST_PARTS)))))


def _backwards(content: object, depth: int = 1) -> Iterator[str]:
    """Yield the texts in a content, the last one first; a part without text yields an empty text."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and depth <= DEEPEST:
        for part in reversed(content):
            if isinstance(part, dict):
                yield from _message(part, depth) if "role" in part else _backwards(part.get("text"), depth + 1)
            else:
                yield part if isinstance(part, str) else ""
    else:
        yield ""


def _message(message: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the texts of a message, the last one first; the first text follows its role."""
    role, before = message["role"], ""
    for text in _backwards(message.get("content"), depth + 1):
        if not text:
            yield ""
            continue
        if before:
            yield before
        before = text
    yield f"{role if isinstance(role, str) else ''}: {before}"


def _within(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _each(record: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    found = record.get(name)
    for item in found if isinstance(found, list) else ():
        if isinstance(item, dict):
            yield item
