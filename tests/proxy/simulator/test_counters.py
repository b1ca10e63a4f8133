import orjson

from proxy.simulator.counters import Counters


def test_counters_are_plain_data() -> None:
    counters = Counters(requests=2)
    counters.by_route["/api/chat"] += 2
    snapshot = counters.snapshot()
    counters.by_route["/api/chat"] += 1
    assert orjson.loads(orjson.dumps(snapshot))["by_route"] == {"/api/chat": 2}
    assert snapshot["requests"] == 2
