"""What is read of a process and of its metrics."""

import os

from bench.soak.sample import kernel, loop_lag, read_metrics

TEXT = """\
# HELP ollama_proxy_backend_active Slots of a backend that are taken.
# TYPE ollama_proxy_backend_active gauge
ollama_proxy_backend_active{backend="gpu-1"} 2.0
ollama_proxy_backend_active{backend="gpu-2"} 3.0
ollama_proxy_tasks 7.0
ollama_proxy_event_loop_lag_seconds_bucket{le="0.01"} 90.0
ollama_proxy_event_loop_lag_seconds_bucket{le="0.1"} 99.0
ollama_proxy_event_loop_lag_seconds_bucket{le="+Inf"} 100.0
"""


def test_this_process_is_read() -> None:
    found = kernel(os.getpid())
    assert found["memory"] > 2**20
    assert found["descriptors"] >= 3
    assert found["threads"] >= 1


def test_numbers_are_summed_over_their_labels() -> None:
    found = read_metrics(TEXT)
    assert found["slots taken"] == 5
    assert found["tasks"] == 7
    assert found["requests running"] == 0
    assert found["series"] == 6


def test_lag_is_that_of_the_time_between() -> None:
    later = TEXT.replace(" 90.0", " 290.0").replace(" 99.0", " 299.0").replace(" 100.0", " 300.0")
    assert loop_lag(TEXT) == 0.1
    assert loop_lag(later, TEXT) == 0.01
    assert loop_lag("") == 0.0
