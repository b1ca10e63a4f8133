"""The values of a policy file as a tree of nodes, each with its position in the file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from config.problems import Path

Scalar = str | int | float | bool | None
Data = Scalar | list["Data"] | dict[str, "Data"]
"""Plain values, as in JSON."""

_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,40})|0x[0-9a-fA-F]{1,32}|0o[0-7]{1,40}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[Mapping[str, Scalar]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


@dataclass(slots=True)
class Node:
    """One value and its position.

    Attributes:
        value: a scalar, a list of nodes, or a mapping of names to nodes.
        line: line of the first character, from 1.
        column: column of the first character, from 1.
        text: the scalar as written, without quotes; prints show this.
        resolved: whether any part of the scalar came from the environment or from another file.
        reported: whether a problem with this node was reported already.
        keys: the position of each key of a mapping, as (line, column).
        size: number of nodes in this subtree, itself included, with aliases counted in full.
        height: depth of this subtree, 1 for a scalar.
    """

    value: "Scalar | list[Node] | dict[str, Node]"
    line: int = 0
    column: int = 0
    text: str | None = None
    resolved: bool = False
    reported: bool = False
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 1
    height: int = 1

    def fill(self, value: "list[Node] | dict[str, Node]") -> None:
        """Set the value of this node to a list or mapping, and update `size` and `height`."""
        self.value = value
        children = value.values() if isinstance(value, dict) else value
        self.size += sum(child.size for child in children)
        self.height += max((child.height for child in children), default=0)

    def with_child(self, key: str, child: "Node") -> "Node":
        """Return a copy of this mapping with `child` at `key`."""
        children = self.value if isinstance(self.value, dict) else {}
        return replace(self, value={**children, key: child})

    def data(self) -> Data:
        """Return the tree as plain values."""
        if isinstance(self.value, dict):
            return {key: node.data() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.data() for node in self.value]
        return self.value

    def shown(self) -> Data:
        """Return the values for a print: a resolved scalar appears as it was written."""
        if isinstance(self.value, dict):
            return {key: node.shown() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.shown() for node in self.value]
        return self.text if self.resolved else self.value

    def step(self, part: str | int) -> "Node | None":
        """Return the child `part`, or None if there is none."""
        if isinstance(self.value, dict):
            return self.value.get(part) if isinstance(part, str) else None
        if isinstance(self.value, list) and isinstance(part, int) and -1 < part < len(self.value):
            return self.value[part]
        return None

    def at(self, path: Path) -> "Node":
        """Return the node at `path`, or the last node that exists on the way to it."""
        node = self
        for part in path:
            child = node.step(part)
            if child is None:
                break
            node = child
        return node

    def walk(self, path: Path = ()) -> "Iterator[tuple[Path, Node]]":
        """Yield this node and every node below it, each with its path."""
        yield path, self
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                yield from node.walk((*path, key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                yield from node.walk((*path, index))

    @classmethod
    def of(cls, data: "Data | Mapping[str, Data] | Sequence[Data]") -> "Node":
        """Return a tree without positions, for a configuration that does not come from a file."""
        if isinstance(data, Mapping):
            return cls({key: cls.of(value) for key, value in data.items()})
        if isinstance(data, Sequence) and not isinstance(data, str):
            return cls([cls.of(value) for value in data])
        return cls(data, text=None if data is None else str(data))


def scalar(text: str) -> Scalar:
    """Return the value of a plain scalar under YAML 1.2's core schema; anything unknown is text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    return float(text) if _FLOAT.fullmatch(text) and not _leading_zero(text) else text


def _leading_zero(text: str) -> bool:
    digits = text.lstrip("+-")
    return digits[0] == "0" and digits[1:2].isdigit()
