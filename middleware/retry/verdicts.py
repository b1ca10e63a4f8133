"""Where a failed request may go next: a pure function of its route and the failure.

============================================  ===================  ===================  ======================
the backend                                   safe                 costly               never
============================================  ===================  ===================  ======================
got nothing of the request                    anywhere             anywhere             anywhere
closed the connection without an answer       anywhere once        anywhere once        no
is full (503, maximum pending requests)       anywhere             anywhere             no
gave an error about the request's content     no                   no                   no
gave the error that another one gave before   no                   no                   no
answered 502, 503 or 504                      anywhere             anywhere             no
answered 500, or 404 for a model it had       elsewhere            elsewhere            no
answered junk, or nothing at all              elsewhere            elsewhere            no
was too slow (load, first byte, write)        elsewhere            elsewhere            no
let the time for the whole request run out    no                   no                   no
broke off an answer that had begun            no                   no                   no
============================================  ===================  ===================  ======================

*Safe* are GET, HEAD, show and embed; *costly* are generate and chat, which cost time; *never* are pull, push, create,
copy and delete. *Anywhere* means at once on a backend that was not tried yet, else on any backend after a back-off.
*Elsewhere* means only on a backend that was not tried yet. *Once* counts for the whole life of a request: the request
may be what kills backends, so it is sent and lost at most twice (see `proxy.pool.blame`). An error that two backends
give alike is an answer, unless it says that it will pass (503, 504) or concerns the host (no memory, a runner that
died). A blob is never repeated, because the proxy does not keep its bytes.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Truncated,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.kernel.route import Repeat


class Verdict(Enum):
    """Where a failed request may go next."""

    NO = "no"
    ELSEWHERE = "elsewhere"
    ANYWHERE = "anywhere"


_GATEWAY_ERRORS: Final = frozenset({502, 503, 504})
_SLOW: Final = frozenset({"load", "first_byte", "write"})


def verdict(repeat: Repeat, errors: Sequence[UpstreamError]) -> Verdict:
    """Return where a request with `repeat` may go after `errors`, the latest last; see the table above."""
    error = errors[-1]
    if error.spent or isinstance(error, Truncated) or (isinstance(error, UpstreamTimeout) and error.timer == "total"):
        return Verdict.NO
    if not error.sent and not error.received:
        return Verdict.ANYWHERE
    if repeat == "never":
        return Verdict.NO
    match error:
        case ConnectionLost():
            return Verdict.ANYWHERE
        case UpstreamAnswer():
            if error.about == "request" or is_answer(errors):
                return Verdict.NO
            if error.busy or error.status in _GATEWAY_ERRORS:
                return Verdict.ANYWHERE
            return Verdict.ELSEWHERE if error.missing or error.status == 500 else Verdict.NO
        case UpstreamTimeout():
            return Verdict.ELSEWHERE if error.timer in _SLOW else Verdict.NO
        case BadAnswer():
            return Verdict.ELSEWHERE
    return Verdict.NO


def is_answer(errors: Sequence[UpstreamError]) -> bool:
    """Return whether another backend gave the latest of `errors` too, so that the request itself causes it."""
    error = errors[-1]
    said = error.answer if isinstance(error, UpstreamAnswer) else None
    return said is not None and any(
        isinstance(earlier, UpstreamAnswer) and earlier.answer == said and earlier.backend != error.backend
        for earlier in errors[:-1]
    )


def why_not(errors: Sequence[UpstreamError]) -> str:
    """Return the reason why a request may not be sent again after `errors`, for ``gave_up``."""
    error = errors[-1]
    if error.code == codes.SUSPECTED_POISON:
        return "suspected_poison"
    if error.spent:
        return "lost_twice"
    if isinstance(error, UpstreamAnswer) and error.about == "request":
        return "content_error"
    return "same_error" if is_answer(errors) else "not_repeatable"


def most_telling(errors: Sequence[UpstreamError]) -> UpstreamError:
    """Return the error that tells the caller most; among equals, the latest.

    A backend's own error text ranks highest. "I do not have this model" ranks lowest, since another backend seemed to
    have it.
    """
    return max(reversed(errors), key=_weight)


def _weight(error: UpstreamError) -> int:
    if isinstance(error, UpstreamAnswer):
        return 0 if error.missing else 2 if error.busy else 4
    return 1 if isinstance(error, ConnectFailed) else 3
