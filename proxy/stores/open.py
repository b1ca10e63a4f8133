"""Opens the store that the configuration names."""

from proxy.kernel.clock import Clock
from proxy.kernel.store import Store
from proxy.stores.memory import MemoryStore


def open_store(url: str, clock: Clock) -> Store:
    """Return the store at `url`: ``memory``, or a Redis, see `proxy.stores.redis_url`.

    Raises ValueError where there is no such thing. Nothing is connected yet: that is for `Store.connect` or first use.
    """
    if url == "memory":
        return MemoryStore(clock)
    if "://" not in url:
        raise ValueError("the store is neither memory nor the address of a Redis like redis://host:6379/0")
    try:
        from proxy.stores.redis import RedisStore
    except ImportError as error:
        raise ValueError("a shared store needs the redis package: pip install 'ollama-proxy[redis]'") from error
    return RedisStore(url, clock)
