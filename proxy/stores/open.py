"""Open the store that the policy file names."""

from proxy.kernel.clock import Clock
from proxy.kernel.store import Store
from proxy.stores.memory import MemoryStore


def open_store(url: str, clock: Clock) -> Store:
    """Return the store at `url`: ``memory``, ``sqlite:`` and a path, or the URL of a Redis.

    See `proxy.stores.redis_url` for those of a Redis.

    Raises ValueError for any other URL. Connects nothing: `Store.connect` does, or the first call.
    """
    if url == "memory":
        return MemoryStore(clock)
    if url.startswith("sqlite:"):
        from proxy.stores.sqlite import SqliteStore

        return SqliteStore(url.removeprefix("sqlite:"), clock)
    if "://" not in url:
        raise ValueError("the store is neither memory, sqlite:PATH, nor the address of a Redis: redis://host:6379/0")
    try:
        from proxy.stores.redis import RedisStore
    except ImportError as error:
        raise ValueError("a shared store needs the redis package: pip install 'ollama-proxy[redis]'") from error
    return RedisStore(url, clock)
