"""proxy/stores/open.py."""

import sys

import pytest

from proxy.services.system_clock import SystemClock
from proxy.stores.memory import MemoryStore
from proxy.stores.open import open_store
from proxy.stores.redis import RedisStore


def test_memory() -> None:
    assert isinstance(open_store("memory", SystemClock()), MemoryStore)


def test_a_redis_is_not_connected_yet() -> None:
    store = open_store("redis://:secret@redis.example:6379/0", SystemClock())
    assert isinstance(store, RedisStore)
    assert store.url == "redis://redis.example:6379/0"


@pytest.mark.parametrize("url", ["", "memroy", "redis", "redis:6379", "/run/redis.sock", "mysql://:secret@h/db"])
def test_what_is_no_store(url: str) -> None:
    with pytest.raises(ValueError, match="redis://host:6379/0") as caught:
        open_store(url, SystemClock())
    assert "secret" not in str(caught.value)


def test_a_missing_package_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "proxy.stores.redis")
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ValueError, match=r"pip install 'ollama-proxy\[redis\]'"):
        open_store("redis://h:1", SystemClock())
