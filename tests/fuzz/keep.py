"""Which inputs are worth keeping: those that reach code of ours which no smaller one reaches."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
OURS: Final = tuple(f"{ROOT / package}/" for package in ("proxy", "middleware", "config"))

Check = Callable[[bytes], object]
Step = tuple[str, int, int]
"""A file and two of its lines that ran one after the other."""


def worth_keeping(check: Check, there: Iterable[bytes], found: Iterable[bytes]) -> Iterator[bytes]:
    """Yield those of `found`, the smallest first, that take a step which nothing before them took, and do not fail."""
    known: set[Step] = set()
    for data in there:
        known |= steps(check, data) or set()
    for data in sorted(found, key=lambda data: (len(data), data)):
        taken = steps(check, data)
        if taken is not None and taken - known:
            known |= taken
            yield data


def steps(check: Check, data: bytes) -> set[Step] | None:
    """Return the steps that `check` takes through our code; None where it raises."""
    taken: set[Step] = set()
    with _noting(taken):
        try:
            check(data)
        except Exception:
            return None
    return taken


@contextmanager
def _noting(taken: set[Step]) -> Iterator[None]:
    last: dict[FrameType, int] = {}

    def note(frame: FrameType, event: str, _: Any) -> Any:
        line = frame.f_lineno
        taken.add((frame.f_code.co_filename, last.get(frame, 0), line))
        last[frame] = line
        if event == "return":
            last.pop(frame, None)
        return note

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return note(frame, event, argument) if frame.f_code.co_filename.startswith(OURS) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)
