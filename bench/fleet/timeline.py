"""Numbers that go up and down, over time."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

Change = tuple[float, str, int]
"""At that time the number of that name changes by so much."""
Span = tuple[float, float]


def spans(changes: Iterable[Change], began: float, ended: float) -> Iterator[tuple[float, float, Counter[str]]]:
    """Yield (begin, end, numbers) from `began` to `ended`; the numbers are those of the moment, to be read at once."""
    numbers: Counter[str] = Counter()
    last = began
    for at, name, change in sorted(changes):
        until = min(max(at, began), ended)
        if until > last:
            yield last, until, numbers
            last = until
        numbers[name] += change
    if ended > last:
        yield last, ended, numbers


def between(began: float, ended: float, name: str) -> list[Change]:
    """Return the changes of a number that is one more from `began` to `ended`."""
    return [(began, name, 1), (ended, name, -1)]


def steps(levels: Sequence[tuple[float, int]], name: str) -> list[Change]:
    """Return the changes of a number that was noted at each change."""
    return [(levels[0][0], name, levels[0][1])] + [
        (at, name, level - before) for (_, before), (at, level) in pairwise(levels)
    ]


def inside(at: float, found: Sequence[Span]) -> bool:
    """Return whether `at` is in one of the spans."""
    return any(began <= at < ended for began, ended in found)


def joined(found: Iterable[Span]) -> list[Span]:
    """Return the spans, in order, with those that touch made one."""
    result: list[Span] = []
    for began, ended in found:
        if result and began <= result[-1][1]:
            result[-1] = (result[-1][0], ended)
        else:
            result.append((began, ended))
    return result


def most_within(times: Iterable[float], window: float) -> tuple[int, float]:
    """Return the largest number of `times` in any `window`, and when that window begins."""
    ordered = sorted(times)
    most, when, first = 0, 0.0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        if last - first + 1 > most:
            most, when = last - first + 1, ordered[first]
    return most, when
