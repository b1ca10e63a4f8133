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
copy and delete. *Anywhere* means: at once on a backend that was not tried yet, else after a back-off; *elsewhere* only
the former. *Once* is for the whole life of a request: it is sent at most twice and lost, see `proxy.pool.blame`, as it
may be what kills backends. An error that two backends give alike is an answer; what says of itself that it will pass
(503, 504), or is about the host (no memory, a runner that died), is not. A blob is never repeated: its bytes are gone.
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
    """Return where a request whose route says `repeat` may go after `errors`, the latest last; the table is above."""
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
    """Whether the latest of `errors` is what another backend said too, so that it is the request's own."""
    error = errors[-1]
    said = error.answer if isinstance(error, UpstreamAnswer) else None
    return said is not None and any(
        isinstance(earlier, UpstreamAnswer) and earlier.answer == said and earlier.backend != error.backend
        for earlier in errors[:-1]
    )


def why_not(errors: Sequence[UpstreamError]) -> str:
    """Return the word for why a request that may go nowhere after `errors` may not, for ``gave_up``."""
    error = errors[-1]
    if error.code == codes.SUSPECTED_POISON:
        return "suspected_poison"
    if error.spent:
        return "lost_twice"
    if isinstance(error, UpstreamAnswer) and error.about == "request":
        return "content_error"
    return "same_error" if is_answer(errors) else "not_repeatable"


def most_telling(errors: Sequence[UpstreamError]) -> UpstreamError:
    """Return the error that tells the caller most; of equals the latest.

    A backend's own words come first, "I do not have this model" last: another one was believed to have it.
    """
    return max(reversed(errors), key=_weight)


def _weight(error: UpstreamError) -> int:
    if isinstance(error, UpstreamAnswer):
        return 0 if error.missing else 2 if error.busy else 4
    return 1 if isinstance(error, ConnectFailed) else 3
