"""proxy/collector.py."""

import gc

from proxy.collector import keep_collector_calm


def test_the_collector_runs_seldom_and_skips_what_is_there() -> None:
    before = gc.get_threshold()
    try:
        keep_collector_calm()
        assert gc.get_threshold() == (20_000, 20, 50)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
