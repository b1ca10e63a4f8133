from middleware.auth.cache import TokenCache, token_digest
from proxy.testing import ManualClock


def test_an_entry_holds_for_its_seconds() -> None:
    clock = ManualClock()
    cache: TokenCache[str] = TokenCache(2, clock)
    cache.put(b"a", "alice", 10.0)
    clock.advance(9.9)
    assert cache.get(b"a") == "alice"
    clock.advance(0.1)
    assert cache.get(b"a") is None
    assert b"a" in cache  # that it was good once is known
    cache.forget(b"a")
    assert b"a" not in cache


def test_an_entry_ends_by_whichever_clock_says_so_first() -> None:
    clock = ManualClock(1000.0)
    cache: TokenCache[str] = TokenCache(2, clock)
    cache.put(b"a", "alice", 10.0, expires=1005.0)
    clock.advance(5.0)
    assert cache.get(b"a") is None
    cache.put(b"a", "alice", 10.0, expires=1e9)
    clock.set(0.0)
    clock.advance(10.0)
    assert cache.get(b"a") is None


def test_the_least_recently_used_goes_first() -> None:
    cache: TokenCache[str] = TokenCache(2, ManualClock())
    cache.put(b"a", "alice", 10.0)
    cache.put(b"b", "bob", 10.0)
    cache.get(b"a")
    cache.put(b"c", "carl", 10.0)
    assert [cache.get(name) for name in (b"a", b"b", b"c")] == ["alice", None, "carl"]
    assert len(cache) == 2


def test_the_digest_is_not_the_token() -> None:
    assert b"secret" not in token_digest("secret")
    assert token_digest("secret") != token_digest("secret2")
