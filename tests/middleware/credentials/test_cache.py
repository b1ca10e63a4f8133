from middleware.credentials.cache import TokenCache, token_digest


def test_an_entry_holds_until_its_moment() -> None:
    cache: TokenCache[str] = TokenCache(2)
    cache.put(b"a", "alice", until=10.0)
    assert cache.get(b"a", 9.9) == "alice"
    assert cache.get(b"a", 10.0) is None
    assert len(cache) == 0


def test_the_least_recently_used_goes_first() -> None:
    cache: TokenCache[str] = TokenCache(2)
    cache.put(b"a", "alice", until=10.0)
    cache.put(b"b", "bob", until=10.0)
    cache.get(b"a", 0.0)
    cache.put(b"c", "carl", until=10.0)
    assert [cache.get(name, 0.0) for name in (b"a", b"b", b"c")] == ["alice", None, "carl"]


def test_clearing_forgets() -> None:
    cache: TokenCache[str] = TokenCache(2)
    cache.put(b"a", "alice", until=10.0)
    cache.clear()
    assert cache.get(b"a", 0.0) is None


def test_the_digest_is_not_the_token() -> None:
    assert b"secret" not in token_digest("secret")
    assert token_digest("secret") != token_digest("secret2")
