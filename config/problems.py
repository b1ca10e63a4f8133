"""Problems of a configuration: what is wrong, where, and what to write instead."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.kernel.units import Mistake

Path = tuple[str | int, ...]
"""The location of a value: keys and list indexes from the top of the file."""

_BARE: Final = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration.

    Attributes:
        file: the file's name, as the caller gave it.
        line: line, from 1; 0 if the problem concerns the whole file.
        column: column in characters, from 1.
        path: location in the file's structure; empty for the whole file.
        message: what is wrong; never holds a value from the environment or from a file.
        hint: what to write instead.
    """

    file: str
    line: int
    column: int
    path: Path
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f"{show_path(self.path)}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {path}{self.message}{hint}"


class Mistakes(ValueError):
    """Several mistakes below one checked value, each with its path from that value."""

    def __init__(self, found: Iterable[tuple[Path, Mistake]]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(mistake.message for _, mistake in self.found))


class Invalid(Exception):
    """The configuration cannot be used; `problems` lists the reasons in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return `problems` in the order of their file, without duplicates."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column)))


def show_path(path: Path) -> str:
    """Return a path as text: ``("middleware", 4, "rate_limit")`` → ``middleware[4].rate_limit``."""
    text = ""
    for part in path:
        if isinstance(part, str) and _BARE.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text
