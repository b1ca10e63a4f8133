"""proxy/kernel/traces.py."""

from proxy.kernel.traces import Collector


def test_a_collector_prints_no_headers() -> None:
    collector = Collector("http://collector:4318", (("authorization", "secret"),), "ollama-proxy", 1.0)
    assert repr(collector) == "<Collector at http://collector:4318>"
