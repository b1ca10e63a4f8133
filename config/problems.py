"""What is wrong with a configuration, where, and what to write instead."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.kernel.units import Mistake

Path = tuple[str | int, ...]
"""Where a value stands: keys and list indexes from the top of the file."""

_BARE: Final = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration.

    Attributes:
        file: the file as it was named by whoever asked to read it.
        line: first line is 1; 0 where the file as a whole is meant.
        column: first column is 1, counted in characters.
        path: where in the file's structure; empty for the file as a whole.
        message: what is wrong; never holds a value that came from the environment or a file.
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
    """Several mistakes below a value that was checked as a whole, each with its path from there."""

    def __init__(self, found: Iterable[tuple[Path, Mistake]]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(mistake.message for _, mistake in self.found))


class Invalid(Exception):
    """A configuration that cannot be used; `problems` says why, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return `problems` as they stand in their file, each once."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column)))


def show_path(path: Path) -> str:
    """``("middleware", 4, "rate_limit")`` → ``middleware[4].rate_limit``."""
    text = ""
    for part in path:
        if isinstance(part, str) and _BARE.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text
