"""The Range field of a request for a recorded answer (RFC 9110, section 14): one range of bytes."""

import re
from dataclasses import dataclass
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{1,18})?-(\d{1,18})?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of bytes.

    Attributes:
        first: its first byte, counted from 0; None where it is the last so many bytes.
        last: its last byte; of the last so many bytes their number; None for all that follows.
    """

    first: int | None
    last: int | None

    def within(self, length: int) -> tuple[int, int | None]:
        """Return the first byte and the number of bytes, of an answer of `length`; None for all that follows."""
        if self.first is None:
            return max(0, length - (self.last or 0)), None
        return self.first, None if self.last is None else self.last - self.first + 1


def byte_range(value: bytes | None) -> ByteRange | None:
    """Read a Range field; None where there is none, or one of another unit. Raises Refused (400) where it is no range.

    Several ranges are refused: an answer that still grows cannot be sent in parts.
    """
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if not text.lower().startswith("bytes"):
        return None  # of a unit that is not known, which is to be ignored
    match = _RANGE.fullmatch(text)
    if match is None or (match[1] is None and match[2] is None):
        raise _bad(text)
    first, last = (None if digits is None else int(digits) for digits in match.groups())
    if first is not None and last is not None and last < first:
        raise _bad(text)
    return ByteRange(first, last)


def _bad(text: str) -> Refused:
    shown = text[:64].encode("unicode_escape").decode()
    return Refused(400, f"Range: {shown} is not one range of bytes; write it like bytes=1000-", code=codes.BAD_RANGE)
