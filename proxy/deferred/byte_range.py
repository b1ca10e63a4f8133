"""The Range field of a request for a recorded answer (RFC 9110, section 14.2): one range of bytes."""

import re
from dataclasses import dataclass
from typing import Final

from proxy.kernel.asgi import Scope, header_values

_RANGE: Final = re.compile(r"bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))", re.IGNORECASE)


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


def range_of(scope: Scope) -> ByteRange | None:
    """Return the range that a request asks for.

    None where it asks for none, for several, or in a way that cannot be read: then it gets the whole, as the RFC says.
    """
    values = header_values(scope["headers"], b"range")
    found = _RANGE.fullmatch(values[0].decode("latin-1").strip()) if len(values) == 1 else None
    if found is None:
        return None
    first, last, suffix = (int(text) if text is not None else None for text in found.groups())
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last, suffix)
