"""Turn YAML text into a tree of values with their positions.

The rules are those of YAML 1.2, on top of PyYAML's scanner and parser. ``yes``, ``no``, ``on`` and ``off`` are text;
so are time stamps, ``12:30:00`` and ``010``. The parser refuses everything that reads differently from how it looks:
duplicate keys, tags, merge keys, several documents.
"""

import re
from collections.abc import Iterator
from typing import Final, cast

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from config.addresses import PORT
from config.problems import Path, Problem
from config.tree import Node, scalar

MAX_BYTES: Final = 2**20
MAX_DEPTH: Final = 40
MAX_NODES: Final = 50_000
"""Number of values, with every alias replaced by the value it stands for."""

_LINE_END: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""The line ends that PyYAML counts, for errors that PyYAML reports without a line."""


def parse(source: bytes, file: str) -> tuple[Node | None, list[Problem]]:
    """Return the tree of a policy file and its problems; the tree is None if the text is not valid YAML."""
    try:
        if len(source) > MAX_BYTES:
            raise _Unreadable(f"the file is larger than {MAX_BYTES} bytes")
        return _Composer(_decode(source), file).compose()
    except _Unreadable as error:
        return None, [Problem(file, error.line, error.column, (), error.message, error.hint)]


class _Unreadable(Exception):
    def __init__(self, message: str, line: int = 0, column: int = 0, hint: str | None = None) -> None:
        self.message, self.line, self.column, self.hint = message, line, column, hint


def _decode(source: bytes) -> str:
    if source.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Unreadable("the file is UTF-16", hint="save it as UTF-8")
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()  # excludes the byte order mark
        raise _Unreadable("the file is not UTF-8", *_position(before), hint="save it as UTF-8") from None


def _position(before: str) -> tuple[int, int]:
    lines = _LINE_END.split(before)
    return len(lines), len(lines[-1]) + 1


class _Composer:
    """Builds the tree from PyYAML's events."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._text = text
        self._problems: list[Problem] = []
        self._anchors: dict[str, Node] = {}
        self._events: Iterator[Event] = iter(())
        self._nodes = 0

    def compose(self) -> tuple[Node | None, list[Problem]]:
        try:
            # SafeLoader holds PyYAML's parser; parse() only returns events and constructs no objects
            self._events = yaml.parse(self._text, Loader=yaml.SafeLoader)
            root = self._root()
        except yaml.reader.ReaderError as error:
            place = _position(self._text[: error.position])
            raise _Unreadable(f"character U+{int(error.character):04X} is not allowed", *place) from None
        except yaml.MarkedYAMLError as error:
            raise _syntax_error(error) from None
        return root, self._problems

    def _root(self) -> Node:
        next(self._events)
        if isinstance(next(self._events), StreamEndEvent):
            raise _Unreadable("the file is empty")
        root = self._node(self._next(), ())
        next(self._events)
        extra = next(self._events)
        if isinstance(extra, DocumentStartEvent):
            self._problem(extra, (), "a second document begins here", "a policy file is one document")
        if not isinstance(root.value, dict):
            raise _Unreadable(
                "expected a mapping of settings", root.line, root.column, f"write listen: 127.0.0.1:{PORT}"
            )
        if root.size > MAX_NODES:
            raise _Unreadable(f"the file stands for more than {MAX_NODES} values once its aliases are replaced")
        return root

    def _next(self) -> NodeEvent:
        return cast(NodeEvent, next(self._events))

    def _problem(self, event: Event, path: Path, message: str, hint: str | None = None) -> None:
        self._problems.append(Problem(self._file, *_place(event), path, message, hint))

    def _node(self, event: NodeEvent, path: Path) -> Node:
        if len(path) > MAX_DEPTH:
            raise _Unreadable(f"nested more than {MAX_DEPTH} deep", *_place(event))
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Unreadable(f"the file holds more than {MAX_NODES} values", *_place(event))
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        node = Node(None, *_place(event))
        if isinstance(event, ScalarEvent):
            self._scalar(node, event, path)
        elif isinstance(event, SequenceStartEvent):
            self._sequence(node, event, path)
        elif isinstance(event, MappingStartEvent):
            self._mapping(node, event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent, path: Path) -> Node:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            self._problem(event, path, f"there is no anchor &{event.anchor} before this alias")
            return Node(None, *_place(event))
        if len(path) + node.height > MAX_DEPTH:
            raise _Unreadable(f"nested more than {MAX_DEPTH} deep by aliases", *_place(event))
        return node

    def _refuse_tag(self, event: ScalarEvent | SequenceStartEvent | MappingStartEvent, path: Path) -> None:
        if event.tag is not None:
            self._problem(event, path, f"tags such as {event.tag[:40]} are not allowed", "quote it if it is text")

    def _scalar(self, node: Node, event: ScalarEvent, path: Path) -> None:
        self._refuse_tag(event, path)
        node.text = event.value
        node.value = scalar(event.value) if event.style is None else event.value
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            node.value = node.text = ""
            self._problem(event, path, "half of a surrogate pair is no character")

    def _sequence(self, node: Node, event: SequenceStartEvent, path: Path) -> None:
        self._refuse_tag(event, path)
        items: list[Node] = []
        while not isinstance(child := self._next(), SequenceEndEvent):
            items.append(self._node(child, (*path, len(items))))
        node.fill(items)

    def _mapping(self, node: Node, event: MappingStartEvent, path: Path) -> None:
        self._refuse_tag(event, path)
        items: dict[str, Node] = {}
        while not isinstance(child := self._next(), MappingEndEvent):
            key = self._key(child, path)
            value = self._node(self._next(), (*path, key or "?"))
            if key is None:
                continue
            if key in items:
                line, column = node.keys[key]
                self._problem(child, (*path, key), f"duplicate key; the first stands at {line}:{column}")
                continue
            items[key] = value
            node.keys[key] = _place(child)
        node.fill(items)

    def _key(self, event: NodeEvent, path: Path) -> str | None:
        if not isinstance(event, ScalarEvent):
            self._node(event, (*path, "?"))
            self._problem(event, path, "a key must be plain text")
            return None
        self._refuse_tag(event, path)
        if event.value == "<<" and event.style is None:
            self._problem(event, path, "merge keys are not part of YAML 1.2", "write the keys out")
            return None
        if event.anchor is not None:
            self._problem(event, path, "a key has no anchor")
        return event.value


def _place(event: Event) -> tuple[int, int]:
    mark = cast(yaml.Mark, event.start_mark)  # PyYAML's parser sets start_mark on every event
    return mark.line + 1, mark.column + 1


def _syntax_error(error: yaml.MarkedYAMLError) -> _Unreadable:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    words = ", ".join(part for part in (error.context, error.problem) if part)
    return _Unreadable(f"not valid YAML: {words}", line, column, _syntax_hint(mark) if mark else None)


def _syntax_hint(mark: yaml.Mark) -> str | None:
    if mark.buffer is None:
        return None
    if mark.buffer[mark.pointer : mark.pointer + 1] == "\t":
        return "indent with spaces, not with tabs"
    if mark.buffer[max(0, mark.pointer - 1) : mark.pointer + 1] == "${":
        return "put ${…} in quotes inside braces and brackets"
    return None
