"""proxy/journal/redis_entries.py."""

from proxy.journal.redis_entries import entry_of, fields_of, meta_fields, turn_tenant
from proxy.kernel.journal import StoredCaller
from tests.support.journals import ANN, START, entry


def view(fields: list[str | int | float | bytes], *, late: int = 0) -> list[object]:
    """What a script shows of fields that it was given."""
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in fields]
    added = [b"state", b"queued", b"attempts", b"0", b"fence", b"0"]
    return [[*encoded, *added], 7, -1, late]


def test_what_was_put_in_comes_out() -> None:
    new = entry(
        headers=(("a", "ü"),), query="q=1", cost=3, priority=-2, parent="p", meta={"n": [], "m": {"x": None}, "f": 1.5}
    )
    found = entry_of(view(fields_of(new)), 60)
    for name in (
        *("id", "kind", "caller", "method", "path", "query", "headers", "flavor", "model", "parent"),
        *("cost", "priority", "created_at", "expires_at", "meta"),
    ):
        assert getattr(found, name) == getattr(new, name), name
    assert (found.state, found.recorded, found.position, found.started_at, found.usage) == ("queued", 7, None, None, {})


def test_what_has_expired_is_shown_so_before_it_is_swept() -> None:
    found = entry_of(view(fields_of(entry(expires_at=START))), 60)
    assert found.state == "queued"
    found = entry_of(view(fields_of(entry(expires_at=START)), late=1), 60)
    assert (found.state, found.ended_at, found.expires_at) == ("expired", START, START + 60)


def test_members_of_a_meta_are_fields_of_their_own() -> None:
    assert meta_fields({"a": None, "b": [1]}) == ["a", b"null", "b", b"[1]"]


def test_who_has_no_tenant_is_one() -> None:
    assert turn_tenant(ANN) == "of red"
    assert turn_tenant(StoredCaller(identity="of red")) == "by of red"
    assert turn_tenant(StoredCaller(client="::1")) == "at ::1"
