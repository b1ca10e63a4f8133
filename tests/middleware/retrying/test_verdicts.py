"""middleware/retrying/verdicts.py."""

import pytest

from middleware.retrying.verdicts import Verdict, most_telling, verdict
from proxy.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Timer,
    Truncated,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.routes import Repeat

NO, ELSEWHERE, ANYWHERE = Verdict.NO, Verdict.ELSEWHERE, Verdict.ANYWHERE


def answered(status: int, *, busy: bool = False, missing: bool = False) -> UpstreamAnswer:
    return UpstreamAnswer(status, [], b"", busy=busy, missing=missing)


def late(timer: Timer, *, sent: bool = True) -> UpstreamTimeout:
    return UpstreamTimeout("late", timer=timer, sent=sent)


def lost(*, sent: bool = True, reused: bool = False) -> ConnectionLost:
    return ConnectionLost("lost", sent=sent, reused=reused)


@pytest.mark.parametrize(
    ("error", "safe", "costly", "never"),
    [
        (ConnectFailed("refused"), ANYWHERE, ANYWHERE, ANYWHERE),
        (late("connect", sent=False), ANYWHERE, ANYWHERE, ANYWHERE),
        (lost(sent=False), ANYWHERE, ANYWHERE, ANYWHERE),
        (lost(), ANYWHERE, ANYWHERE, NO),
        (lost(reused=True), ANYWHERE, ANYWHERE, NO),
        (answered(503, busy=True), ANYWHERE, ANYWHERE, NO),
        (answered(502), ANYWHERE, ANYWHERE, NO),
        (answered(503), ANYWHERE, ANYWHERE, NO),
        (answered(504), ANYWHERE, ANYWHERE, NO),
        (answered(500), ELSEWHERE, ELSEWHERE, NO),
        (answered(404, missing=True), ELSEWHERE, ELSEWHERE, NO),
        (answered(404), NO, NO, NO),
        (answered(400), NO, NO, NO),
        (BadAnswer("junk", sent=True, received=True), ELSEWHERE, ELSEWHERE, NO),
        (late("load"), ELSEWHERE, ELSEWHERE, NO),
        (late("first_byte"), ELSEWHERE, ELSEWHERE, NO),
        (late("write"), ELSEWHERE, ELSEWHERE, NO),
        (late("idle"), NO, NO, NO),
        (late("total"), NO, NO, NO),
        (late("total", sent=False), NO, NO, NO),
        (Truncated("cut"), NO, NO, NO),
        (UpstreamError("odd", sent=True), NO, NO, NO),
    ],
    ids=str,
)
def test_verdict(error: UpstreamError, safe: Verdict, costly: Verdict, never: Verdict) -> None:
    kinds: tuple[Repeat, ...] = ("safe", "costly", "never")
    assert tuple(verdict(repeat, [error]) for repeat in kinds) == (safe, costly, never)


def test_a_prompt_that_may_have_killed_its_backend_twice_goes_only_elsewhere() -> None:
    assert verdict("costly", [lost(), lost()]) is ELSEWHERE
    assert verdict("safe", [lost(), lost()]) is ANYWHERE
    assert verdict("costly", [ConnectFailed("x"), lost()]) is ANYWHERE


@pytest.mark.parametrize(
    ("errors", "index"),
    [
        ([ConnectFailed("a"), ConnectFailed("b")], 1),
        ([answered(500), ConnectFailed("b")], 0),
        ([answered(503, busy=True), lost()], 1),
        ([answered(503, busy=True), ConnectFailed("b")], 0),
        ([answered(404, missing=True), ConnectFailed("b")], 1),
        ([late("first_byte"), ConnectFailed("b")], 0),
        ([answered(404, missing=True), answered(404, missing=True)], 1),
    ],
)
def test_most_telling(errors: list[UpstreamError], index: int) -> None:
    assert most_telling(errors) is errors[index]
