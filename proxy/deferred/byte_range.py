"""The Range field of a request for a recorded answer (RFC 9110, section 14.2): one range of bytes."""

import re
from dataclasses import dataclass
from typing import Final

from proxy.kernel.asgi import Scope, header_values

FARTHEST: Final = 2**53 - 1
"""The place that stands for all beyond it: no answer is so long, and every client can read the number."""
_ELEMENT: Final = re.compile(r"(\d+)\s*-\s*(\d+)?|-\s*(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of bytes: from `first` to `last`, both included, or the `suffix` last ones.

    Attributes:
        first: the first byte, counted from 0; None where `suffix` is set.
        last: the last byte; None for all that follow.
        suffix: the number of bytes at the end; None where `first` is set.
    """

    first: int | None = None
    last: int | None = None
    suffix: int | None = None

    def resolved(self, length: int) -> tuple[int, int | None]:
        """Return the first byte and the one behind the last, None for all, in an answer that ends at `length`."""
        if self.suffix is not None:
            return max(0, length - self.suffix), None
        return self.first or 0, None if self.last is None else self.last + 1


def is_still(scope: Scope, etag: bytes) -> bool:
    """Return whether the answer with this entity tag is the one of which the request wants a part (section 13.1.5).

    It is not where `If-Range` has a date, as no answer has one.
    """
    return all(value.strip() == etag for value in header_values(scope["headers"], b"if-range"))


def range_of(scope: Scope) -> ByteRange | None:
    """Return the range that a request asks for.

    None where it asks for none, for several, or in a way that cannot be read: then it gets the whole, as the RFC says.
    """
    values = header_values(scope["headers"], b"range")
    unit, _, ranges = values[0].decode("latin-1").partition("=") if len(values) == 1 else ("", "", "")
    elements = [element.strip() for element in ranges.split(",") if element.strip()]
    found = _ELEMENT.fullmatch(elements[0]) if unit.strip().lower() == "bytes" and len(elements) == 1 else None
    if found is None:
        return None
    first, last, suffix = (_place(text) for text in found.groups())
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last, suffix)


def _place(digits: str | None) -> int | None:
    """Return a number of bytes, however many digits it has."""
    if digits is None:
        return None
    digits = digits.lstrip("0") or "0"
    return min(int(digits), FARTHEST) if len(digits) < 20 else FARTHEST
