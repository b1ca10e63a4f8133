"""proxy/collector.py."""

import gc

from proxy.collector import keep_collector_calm


def test_the_collector_runs_seldom_and_skips_what_is_there() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()  # the tests themselves are frozen, and stay so
    try:
        keep_collector_calm()
        assert gc.get_threshold() == (20_000, 20, 50)
        assert gc.get_freeze_count() > frozen
    finally:
        gc.set_threshold(*before)
