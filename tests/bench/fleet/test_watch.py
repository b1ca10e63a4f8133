"""Which permits outlived their expiry."""

from bench.fleet.watch import Look, late_permits


def test_a_permit_is_late_from_when_its_proxy_was_said_to_expire() -> None:
    looks = [
        Look(10.0, {"a": 4.0, "b": 4.0}, {"a": 2, "b": 1}),
        Look(13.0, {"a": 1.0, "b": 4.0}, {"a": 2, "b": 1}),
        Look(15.0, {"a": -1.0, "b": 4.0}, {"a": 2, "b": 1}),
        Look(18.0, {"b": 4.0}, {"a": 2, "b": 1}),
        Look(20.0, {"b": 4.0}, {"b": 1}),
    ]
    assert late_permits(looks, 0.5) == [(15.0, 1.0, "a", 2), (18.0, 4.0, "a", 2)]


def test_a_server_that_no_proxy_calls_does_not_count() -> None:
    looks = [Look(10.0, {"a": 4.0}, {"a": 2}), Look(20.0, {"a": -6.0}, {"a": 2})]
    assert late_permits(looks, 0.5) == []
