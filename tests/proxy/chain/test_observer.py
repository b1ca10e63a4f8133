from proxy.chain.observer import Observer
from proxy.ops.events import Hub


def test_the_hub_of_events_is_an_observer() -> None:
    assert Observer in Hub.__mro__
    assert {"started", "answered", "finished"} <= set(vars(Hub))
