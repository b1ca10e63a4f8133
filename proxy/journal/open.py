"""Open the journal that belongs to the store of the policy file."""

from proxy.journal.memory import MemoryJournal
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Journal


def open_journal(url: str, clock: Clock) -> Journal:
    """Return the journal at `url`: ``memory``, ``sqlite:`` and a path, or the URL of a Redis.

    Raises ValueError for any other URL. Connects nothing: `Journal.connect` does.
    """
    if url == "memory":
        return MemoryJournal(clock)
    if url.startswith("sqlite:"):
        from proxy.journal.sqlite import SqliteJournal

        return SqliteJournal(url.removeprefix("sqlite:"), clock)
    if "://" not in url:
        raise ValueError("the store is neither memory, nor sqlite:PATH, nor the address of a Redis")
    try:
        from proxy.journal.redis import RedisJournal
    except ImportError as error:
        raise ValueError("a shared store needs the redis package: pip install 'ollama-proxy[redis]'") from error
    return RedisJournal(url, clock)
