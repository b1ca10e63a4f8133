from proxy.kernel.lru import Recent


def test_what_was_noted_longest_ago_is_forgotten() -> None:
    recent: Recent[str, int] = Recent(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        recent.note(key, value)
    assert list(recent.items()) == [("a", 3), ("c", 4)]


def test_what_is_read_does_not_get_younger() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.note("a", 1)
    recent.note("b", 2)
    assert recent["a"] == 1
    recent.note("c", 3)
    assert list(recent) == ["b", "c"]
