"""A finding made small: the least that can be left of an input while it fails in the same place."""

import traceback
from collections.abc import Callable
from typing import Final

Check = Callable[[bytes], object]

_MOST: Final = 4000
"""Tries."""


def failure(check: Check, data: bytes) -> str | None:
    """Return how `check` fails for an input: the kind of error, its text, where it was raised; None where it holds."""
    try:
        check(data)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:800]}\n  {last.filename}:{last.lineno} in {last.name}"
    return None


def shrunk(check: Check, data: bytes) -> bytes:
    """Return `data` without what can be taken out of it, piece by piece, so that it fails in the same place."""
    where = _place(failure(check, data))
    tries = 0
    size = max(len(data) // 2, 1)
    while tries < _MOST:
        at, smaller = 0, False
        while at < len(data) and tries < _MOST:
            tries += 1
            without = data[:at] + data[at + size :]
            if _place(failure(check, without)) == where:
                data, smaller = without, True
            else:
                at += size
        if size == 1 and not smaller:
            break
        size = max(size // 2, 1)
    return data


def _place(how: str | None) -> tuple[str, str] | None:
    """Return kind and place of a failure."""
    return None if how is None else (how.partition(":")[0], how.rpartition("\n")[2])
