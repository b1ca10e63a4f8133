"""middleware/retry/verdicts.py."""

import pytest

from middleware.retry.verdicts import Verdict, most_telling, verdict, why_not
from proxy.kernel import error_codes as codes
from proxy.kernel.errors import (
    BadAnswer,
    ConnectFailed,
    Timer,
    Truncated,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.kernel.route import Repeat
from tests.support.errors import answered, lost

NO, ELSEWHERE, ANYWHERE = Verdict.NO, Verdict.ELSEWHERE, Verdict.ANYWHERE


def late(timer: Timer, *, sent: bool = True) -> UpstreamTimeout:
    return UpstreamTimeout("late", timer=timer, sent=sent)


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


REPEATABLE: tuple[Repeat, ...] = ("costly", "safe")


def test_what_was_sent_and_lost_is_sent_once_more_in_all() -> None:
    for repeat in REPEATABLE:
        spent = lost()
        spent.spent = True
        assert verdict(repeat, [lost(), spent]) is NO
        assert verdict(repeat, [lost(reused=True), ConnectFailed("x"), spent]) is NO
        assert verdict(repeat, [ConnectFailed("x"), lost()]) is ANYWHERE
        assert verdict(repeat, [lost(sent=False), lost()]) is ANYWHERE
        assert verdict(repeat, [spent]) is NO


def test_an_error_about_the_content_is_an_answer() -> None:
    assert verdict("safe", [answered(500, about="request")]) is NO
    assert verdict("safe", [answered(502, about="request")]) is NO


@pytest.mark.parametrize(
    ("earlier", "error", "expected"),
    [
        (answered(500, said="x", at="b1"), answered(500, said="x", at="b2"), NO),
        (answered(502, said="x", at="b1"), answered(502, said="x", at="b2"), NO),
        (answered(500, said="x", about="crash", at="b1"), answered(500, said="x", about="crash", at="b2"), ELSEWHERE),
        (answered(500, said="x", at="b1"), answered(500, said="x", at="b1"), ELSEWHERE),
        (answered(500, said="x", at="b1"), answered(500, said="y", at="b2"), ELSEWHERE),
        (answered(500, said="x", at="b1"), answered(502, said="x", at="b2"), ANYWHERE),
        (answered(500, at="b1"), answered(500, at="b2"), ELSEWHERE),
        (answered(503, said="x", at="b1"), answered(503, said="x", at="b2"), ANYWHERE),
        (answered(500, said="x", about="host", at="b1"), answered(500, said="x", about="host", at="b2"), ELSEWHERE),
    ],
)
def test_the_same_error_of_two_backends_is_an_answer(
    earlier: UpstreamError, error: UpstreamError, expected: Verdict
) -> None:
    assert verdict("costly", [earlier, error]) is expected
    assert verdict("costly", [earlier, ConnectFailed("x"), error]) is expected


def test_why_it_goes_nowhere() -> None:
    poison = lost()
    poison.code, poison.spent = codes.SUSPECTED_POISON, True
    assert why_not([poison]) == "suspected_poison"
    spent = lost()
    spent.spent = True
    assert why_not([lost(), spent]) == "lost_twice"
    assert why_not([answered(500, about="request")]) == "content_error"
    assert why_not([answered(500, said="x", at="b1"), answered(500, said="x", at="b2")]) == "same_error"
    assert why_not([lost()]) == "not_repeatable"


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
