"""proxy/kernel/attempts.py."""

from proxy.kernel.attempts import Attempt, Failure, Usage, broken


def test_only_what_was_sent_and_lost_is_broken() -> None:
    failures = [
        Failure(backend="b1", broke=True),
        Failure(backend="b2", broke=False),
        Failure(backend="b1", broke=True),
    ]
    assert broken(failures) == ["b1", "b1"]
    assert broken([]) == []


def test_nothing_is_known_of_a_usage_at_first() -> None:
    assert Usage() == Usage(tokens_in=None, tokens_out=None, source="reported", done_reason=None)


def test_an_attempt_is_plain_data() -> None:
    attempt = Attempt("gpu-1", 1.0, 3.5, cold=True, error=None)
    assert attempt.ended - attempt.began == 2.5
    assert attempt == ("gpu-1", 1.0, 3.5, True, None, False)
