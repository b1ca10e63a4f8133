"""Where a failed request may go next: a pure function of its route and the failure.

============================================  ===================  ===================  ======================
the backend                                   safe                 costly               never
============================================  ===================  ===================  ======================
got nothing of the request                    anywhere             anywhere             anywhere
closed the connection without an answer       anywhere             anywhere once,       no
                                                                   then elsewhere
is full (503, maximum pending requests)       anywhere             anywhere             no
answered 502, 503 or 504                      anywhere             anywhere             no
answered 500, or 404 for a model it had       elsewhere            elsewhere            no
answered junk, or nothing at all              elsewhere            elsewhere            no
was too slow (load, first byte, write)        elsewhere            elsewhere            no
let the time for the whole request run out    no                   no                   no
broke off an answer that had begun            no                   no                   no
============================================  ===================  ===================  ======================

*Safe* are GET, HEAD, show and embed; *costly* are generate and chat, which cost time; *never* are pull, push, create,
copy and delete. *Anywhere* means: at once on a backend that was not tried yet, else after a back-off; *elsewhere* only
the former. A blob is never repeated: its bytes are gone.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from proxy.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Truncated,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.routes import Repeat


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
    if isinstance(error, Truncated) or (isinstance(error, UpstreamTimeout) and error.timer == "total"):
        return Verdict.NO
    if not error.sent and not error.received:
        return Verdict.ANYWHERE
    if repeat == "never":
        return Verdict.NO
    match error:
        case ConnectionLost():
            # A prompt may be what kills the backend. The one that died of it twice is spared the third time.
            lost = sum(isinstance(earlier, ConnectionLost) for earlier in errors)
            return Verdict.ELSEWHERE if repeat == "costly" and lost > 1 else Verdict.ANYWHERE
        case UpstreamAnswer():
            if error.busy or error.status in _GATEWAY_ERRORS:
                return Verdict.ANYWHERE
            return Verdict.ELSEWHERE if error.missing or error.status == 500 else Verdict.NO
        case UpstreamTimeout():
            return Verdict.ELSEWHERE if error.timer in _SLOW else Verdict.NO
        case BadAnswer():
            return Verdict.ELSEWHERE
    return Verdict.NO


def most_telling(errors: Sequence[UpstreamError]) -> UpstreamError:
    """Return the error that tells the caller most; of equals the latest.

    A backend's own words come first, "I do not have this model" last: another one was believed to have it.
    """
    return max(reversed(errors), key=_weight)


def _weight(error: UpstreamError) -> int:
    if isinstance(error, UpstreamAnswer):
        return 0 if error.missing else 2 if error.busy else 4
    return 1 if isinstance(error, ConnectFailed) else 3
