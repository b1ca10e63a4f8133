"""proxy/stores/expiring.py."""

import pytest

from proxy.stores import expiring as module
from proxy.stores.expiring import ExpiringDict


class Thing:
    def __init__(self, expires: float) -> None:
        self.expires = expires


def test_a_value_is_there_until_its_time_is_over() -> None:
    shelf: ExpiringDict[Thing] = ExpiringDict()
    thing = shelf.put("a", Thing(10), 0)
    assert shelf.get("a", 10) is thing
    assert shelf.get("a", 10.1) is None
    thing.expires = 20
    assert shelf.get("a", 10.1) is thing
    assert shelf.get("b", 0) is None


def test_each_new_key_clears_two_old_ones_away() -> None:
    shelf: ExpiringDict[Thing] = ExpiringDict()
    for number in range(100):
        shelf.put(str(number), Thing(50 if number % 2 else 1000), 0)
    assert len(shelf) == 100
    for number in range(100):
        shelf.put(f"new {number}", Thing(1000), 60)
    assert len(shelf) == 150
    assert shelf.get("1", 60) is None
    assert shelf.get("2", 60) is not None


def test_keys_that_somebody_makes_up_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    shelf: ExpiringDict[Thing] = ExpiringDict()
    for number in range(1000):
        shelf.put(str(number), Thing(1000), 0)
        assert len(shelf) <= 10
        assert shelf.get(str(number), 0) is not None
    assert len(shelf) == 10


def test_putting_a_key_again_replaces_its_value() -> None:
    shelf: ExpiringDict[Thing] = ExpiringDict()
    shelf.put("a", Thing(5), 0)
    thing = shelf.put("a", Thing(50), 10)
    assert shelf.get("a", 10) is thing
    assert len(shelf) == 1


def test_values_can_be_dropped() -> None:
    shelf: ExpiringDict[Thing] = ExpiringDict()
    shelf.put("a", Thing(5), 0)
    shelf.put("b", Thing(5), 0)
    shelf.pop("a")
    shelf.pop("a")
    assert shelf.get("a", 0) is None
    assert shelf.clear() == 1
    assert len(shelf) == 0
