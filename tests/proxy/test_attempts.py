"""proxy/attempts.py."""

from proxy.attempts import Failure, broken


def test_only_what_was_sent_and_lost_is_broken() -> None:
    failures = [
        Failure("b1", "b1", None, "reset", None, True, 0.0),
        Failure("b2", "b2", None, "500", (500, "x"), False, 0.0),
        Failure("b1", "b1", None, "reset", None, True, 0.0),
    ]
    assert broken(failures) == ["b1", "b1"]
    assert broken([]) == []
