"""proxy/kernel/errors.py."""

from collections.abc import Iterator

import pytest

from proxy.kernel import error_codes as codes
from proxy.kernel import errors
from proxy.kernel.errors import (
    BadAnswer,
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    NotRouted,
    ProxyError,
    Refused,
    ShuttingDown,
    Truncated,
    UpstreamAnswer,
    UpstreamTimeout,
)


@pytest.mark.parametrize(
    ("error", "status", "code", "outcome"),
    [
        (Refused(403, "no"), 403, "forbidden", "refused"),
        (Refused(403, "no", code=codes.MODEL_NOT_ALLOWED), 403, "model_not_allowed", "refused"),
        (Refused(418, "no"), 418, "refused", "refused"),
        (NotRouted(404, "404 page not found"), 404, "not_found", "refused"),
        (Cancelled("no"), 499, "cancelled", "cancelled"),
        (ShuttingDown(), 503, "shutdown", "shutdown"),
        (ConnectFailed("x"), 502, "upstream_unreachable", "upstream_failed"),
        (ConnectionLost("x", sent=True, reused=False), 502, "upstream_connection_lost", "upstream_failed"),
        (BadAnswer("x"), 502, "upstream_bad_answer", "upstream_failed"),
        (UpstreamTimeout("x", timer="idle"), 504, "idle_timeout", "timed_out"),
        (UpstreamAnswer(503, [], b"", busy=True, missing=False), 503, "upstream_error", "upstream_failed"),
        (UpstreamAnswer(404, [], b"", busy=False, missing=True), 404, "upstream_error", "completed"),
        (Truncated("x"), 502, "upstream_truncated", "upstream_truncated"),
        (Truncated.after(BadAnswer("x")), 502, "upstream_bad_answer", "upstream_truncated"),
        (Truncated.after(UpstreamTimeout("x", timer="idle")), 502, "idle_timeout", "upstream_truncated"),
    ],
)
def test_each_error_says_what_it_is(error: ProxyError, status: int, code: str, outcome: str) -> None:
    assert (error.status, error.code, error.outcome) == (status, code, outcome)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    drawn = {line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    # A plugin may have errors of its own; they are refusals to everybody else.
    assert drawn == {error.__name__ for error in below(ProxyError) if error.__module__ == errors.__name__}


def below(error: type[ProxyError]) -> Iterator[type[ProxyError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from below(kind)


def test_what_may_have_arrived() -> None:
    assert (ConnectFailed("x").sent, ConnectFailed("x").received) == (False, False)
    lost = ConnectionLost("x", sent=True, reused=True)
    assert (lost.sent, lost.received, lost.reused) == (True, False, True)
    assert (Truncated("x").sent, Truncated("x").received) == (True, True)
