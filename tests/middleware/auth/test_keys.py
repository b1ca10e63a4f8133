import pytest

from middleware.auth.caller import Caller
from middleware.auth.keys import KeyEntry, Keys, SecretHash, new_key
from middleware.auth.lifetimes import Lifetimes
from proxy.kernel.errors import Refused
from proxy.testing import ManualClock

NOW = 1_800_000_000.0


def keys(*entries: KeyEntry) -> Keys:
    return Keys({entry.id: entry for entry in entries})


def test_a_key_opens_what_its_entry_says() -> None:
    key, entry = new_key("alice", now=NOW, tenant="physics", policy="research")
    assert keys(entry).caller(key, NOW) == Caller("alice", "physics", "research")


def test_a_key_has_enough_random_bits_and_is_stored_only_as_a_hash() -> None:
    key, entry = new_key("alice", now=NOW)
    secret = key.rpartition("_")[2]
    assert 62 ** len(secret) > 2**160
    assert secret not in repr(entry)
    assert secret not in str(entry.hash)
    assert str(entry.hash) not in repr(entry)


def test_two_keys_share_neither_salt_nor_digest() -> None:
    assert SecretHash.of("same") != SecretHash.of("same")


@pytest.mark.parametrize(
    "change", [str.upper, str.lower, lambda key: key[:-1], lambda key: key + "0", lambda key: "op_"]
)
def test_a_changed_key_is_not_known(change) -> None:  # type: ignore[no-untyped-def]
    key, entry = new_key("alice", now=NOW)
    with pytest.raises(Refused) as refused:
        keys(entry).caller(change(key), NOW)
    assert (refused.value.status, refused.value.message) == (401, "the API key is not known")


def test_an_unknown_id_is_told_like_a_wrong_secret_and_costs_the_same_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []
    matches = SecretHash.matches

    def spy(hashed: SecretHash, secret: str) -> bool:
        compared.append(secret)
        return matches(hashed, secret)

    monkeypatch.setattr(SecretHash, "matches", spy)
    _, entry = new_key("alice", now=NOW)
    stranger, _ = new_key("alice", now=NOW)
    messages = set()
    for bad in (stranger, f"op_{entry.id}_{'0' * 32}", "op_what", ""):
        with pytest.raises(Refused) as refused:
            keys(entry).caller(bad, NOW)
        messages.add(refused.value.message)
    assert messages == {"the API key is not known"}
    assert len(compared) == 4


def test_expiry_is_the_first_moment_of_refusal() -> None:
    key, entry = new_key("alice", now=NOW, expires=NOW + 10)
    assert keys(entry).caller(key, NOW + 9.9).identity == "alice"
    with pytest.raises(Refused, match="expired"):
        keys(entry).caller(key, NOW + 10)


def test_a_disabled_key_is_refused_and_says_so_only_to_its_owner() -> None:
    key, entry = new_key("alice", now=NOW)
    off = keys(KeyEntry(entry.name, entry.id, entry.hash, disabled=True))
    with pytest.raises(Refused, match="disabled"):
        off.caller(key, NOW)
    with pytest.raises(Refused, match="not known"):
        off.caller(f"op_{entry.id}_{'0' * 32}", NOW)


def test_a_name_stands_for_its_usable_key_or_says_why_there_is_none() -> None:
    _, entry = new_key("alice", now=NOW, tenant="physics")
    _, old = new_key("alice", now=NOW, expires=NOW)
    off = KeyEntry(entry.name, "0" * 12, entry.hash, disabled=True)
    _, named_like_an_id = new_key(entry.id, now=NOW)
    assert keys(off, old, entry).named("alice", NOW) == Caller("alice", "physics")
    assert keys(named_like_an_id, entry).named(entry.id, NOW) == Caller("alice", "physics")
    assert keys(entry).named("bob", NOW) is None
    for unusable, reason in ((off, "disabled"), (old, "expired")):
        for name in ("alice", unusable.id):
            with pytest.raises(Refused, match=reason):
                keys(unusable).named(name, NOW)


def test_a_bad_name_is_no_name() -> None:
    for name in ("", "a\nb", "x" * 201, "a\x1b[2J", "a\x9b2J", "a\u2028b", "a\u202eb", "a\u2066b"):
        with pytest.raises(ValueError, match="name"):
            new_key(name, now=NOW)


def test_a_clock_that_is_set_back_does_not_prolong_a_key() -> None:
    clock = ManualClock(NOW)
    key, entry = new_key("alice", now=NOW, expires=NOW + 60)
    keys = Keys({entry.id: entry}, Lifetimes(clock))
    clock.set(NOW - 3600)
    clock.advance(59.9)
    assert keys.caller(key, clock.time()).identity == "alice"
    clock.advance(0.1)
    with pytest.raises(Refused, match="expired"):
        keys.caller(key, clock.time())


def test_a_clock_that_was_ahead_shuts_a_key_out_no_longer_than_it_is() -> None:
    clock = ManualClock(NOW + 10**6)
    key, entry = new_key("alice", now=NOW, expires=NOW + 60)
    keys = Keys({entry.id: entry}, Lifetimes(clock))
    with pytest.raises(Refused, match="expired"):
        keys.caller(key, clock.time())
    clock.set(NOW)
    assert keys.caller(key, clock.time()).identity == "alice"
