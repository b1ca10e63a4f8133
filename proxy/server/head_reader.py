"""Collecting the head of a request, in whatever pieces it comes."""

from proxy.server import request_rules


class HeadReader:
    """Keeps the beginning of one head, and refuses early the bytes that cannot become a head.

    Args:
        max_bytes: of a head with its request line.
        max_fields: number of its fields.
    """

    __slots__ = ("_begun", "_max_bytes", "_max_fields")

    def __init__(self, max_bytes: int, max_fields: int) -> None:
        self._max_bytes = max_bytes
        self._max_fields = max_fields
        self._begun = bytearray()

    @property
    def begun(self) -> bool:
        """Return whether anything but white space has come."""
        return bool(self._begun.strip())

    def take(self, data: bytes) -> tuple[request_rules.Head, bytes] | None:
        """Take `data`; return the head once it is whole, with the bytes behind it, else None; raises Refused."""
        begun = self._begun
        if begun:
            looked = max(len(begun) - len(request_rules.EMPTY_LINE) + 1, 0)
            begun += data
            if begun.find(request_rules.EMPTY_LINE, looked) < 0:
                self._check(new_from=looked)
                return None
            data = bytes(begun)
            begun.clear()
        head, end, rest = data.partition(request_rules.EMPTY_LINE)
        if not end:
            begun += data
            self._check(new_from=0)
            return None
        # One empty line in front of a request is to be ignored (RFC 9112 section 2.2).
        head = (head + end).removeprefix(b"\r\n")
        request_rules.check_size(head, self._max_bytes, self._max_fields)
        return request_rules.open_head(head), rest

    def clear(self) -> None:
        """Forget the beginning of a head."""
        self._begun.clear()

    def _check(self, *, new_from: int) -> None:
        begun = self._begun
        # Looking at each line once, when it ends, keeps a head that comes byte by byte linear.
        if new_from == 0 or len(begun) > self._max_bytes or b"\n" in begun[new_from:]:
            request_rules.check_size(begun, self._max_bytes, self._max_fields)
            request_rules.check_beginning(begun)
