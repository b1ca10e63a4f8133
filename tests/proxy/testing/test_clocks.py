"""proxy/testing/clocks.py: time passes when a test says so."""

from proxy.testing import ManualClock


def test_both_times_pass_together_and_one_can_be_set() -> None:
    clock = ManualClock(100.0)
    start = clock.monotonic()
    assert (clock.time(), clock.monotonic()) == (100.0, start)
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic()) == (102.5, start + 2.5)
    clock.set(50.0)
    assert (clock.time(), clock.monotonic()) == (50.0, start + 2.5)
