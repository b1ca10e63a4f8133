"""What a burst has to show: everything accepted is complete, in fair order, none twice."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a burst.

    Attributes:
        accepted: requests that were answered 202.
        states: how many of them ended in which state; ``lost`` are those that nobody knows any more.
        fairness: Jain's index over the tenants of what ended between the last request and the end of the first tenant.
        wrong: answers that are not what the host generates for their request.
        generated: requests that the host generated.
    """

    accepted: int
    states: Mapping[str, int]
    fairness: float
    wrong: int
    generated: int

    def __str__(self) -> str:
        states = ", ".join(f"{number} {state}" for state, number in sorted(self.states.items()))
        return (
            f"{self.accepted} accepted: {states}; {self.wrong} wrong answers; {self.generated} generations; "
            f"Jain {self.fairness:.3f} over tenants"
        )

    def holds(self, *, again: int) -> bool:
        """Return whether all is well; `again` requests may have run a second time, as their proxy was killed."""
        complete = self.states.get("completed", 0) == self.accepted
        once = self.accepted <= self.generated <= self.accepted + again
        return complete and once and not self.wrong and self.fairness >= 0.95

    def kept(self) -> bool:
        """Return whether every request that was accepted is still known."""
        return not self.states.get("lost", 0)


def judge(
    entries: Sequence[Mapping[str, Any]], tenants: Sequence[int], wrong: int, generated: int, since: float = 0.0
) -> Verdict:
    """Return the verdict over what the proxy says of each entry, with the number of its tenant beside it.

    `since` is when the last request was sent, in seconds since 1970.
    """
    return Verdict(
        accepted=len(entries),
        states=Counter(entry.get("state", "lost") for entry in entries),
        fairness=fairness([_moment(entry.get("ended_at")) for entry in entries], tenants, since),
        wrong=wrong,
        generated=generated,
    )


def _moment(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def fairness(ended: Sequence[float | None], tenants: Sequence[int], since: float = 0.0) -> float:
    """Return Jain's index over the tenants' numbers of requests that ended from `since` on, until one was done."""
    last: dict[int, float] = {}
    for at, tenant in zip(ended, tenants, strict=True):
        if at is not None:
            last[tenant] = max(last.get(tenant, 0.0), at)
    if not last:
        return 0.0
    until = min(last.values())
    done = Counter(tenant for at, tenant in zip(ended, tenants, strict=True) if at is not None and since < at <= until)
    return jain([done.get(tenant, 0) for tenant in set(tenants)])


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 where all shares are the same, 1/n where one of n has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares) or 1)
