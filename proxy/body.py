"""Request bodies held in memory: bounded one by one and in sum."""

from proxy.errors import Refused


class BodyBudget:
    """How many bytes of request bodies this process may hold.

    Args:
        each: the largest single body, bytes; beyond it 413.
        total: all bodies together, bytes; beyond it 503 with Retry-After, before another byte is read.
    """

    def __init__(self, *, each: int = 64 * 2**20, total: int = 512 * 2**20) -> None:
        self.each = each
        self.total = total
        self.held = 0

    def hold(self, more: int, *, already: int = 0) -> None:
        """Account for `more` bytes of a body that holds `already`; raises Refused, and then holds nothing more."""
        if already + more > self.each:
            raise Refused(413, f"the request body is larger than the {self.each} bytes this proxy accepts")
        if self.held + more > self.total:
            raise Refused(
                503,
                "the proxy holds as many request bodies as it has memory for; try again shortly",
                code="body_memory_exhausted",
                headers={"retry-after": "1"},
            )
        self.held += more

    def release(self, size: int) -> None:
        """Give back what `hold` accounted for."""
        self.held -= size

    def __repr__(self) -> str:
        return f"<BodyBudget {self.held} of {self.total} bytes held, {self.each} each>"
