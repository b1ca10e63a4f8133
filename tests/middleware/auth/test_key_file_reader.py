from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.auth.caller import Caller
from middleware.auth.key_file_reader import end_of, parse_keys, read_entries
from middleware.auth.keys import KeyEntry, SecretHash
from middleware.auth.watched import BadFile

POLICIES = frozenset({"research"})
HASH = SecretHash.of("x" * 32)


def entry_text(**fields: str) -> str:
    lines = {"name": "alice", "id": "4fQn0ZrT7LkP", "hash": str(HASH)} | fields
    return "- " + "\n  ".join(f"{name}: {value}" for name, value in lines.items()) + "\n"


def one(text: str) -> KeyEntry:
    (entry,) = read_entries(text.encode(), "keys.yaml")
    assert isinstance(entry, KeyEntry), entry
    return entry


def test_every_value_is_text() -> None:
    entry = one(entry_text(name="007", tenant="on", policy="1e3"))
    assert (entry.name, entry.tenant, entry.policy) == ("007", "on", "1e3")


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-12-31", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-12-31T08:00:00Z", datetime(2026, 12, 31, 8, tzinfo=UTC)),
        ("2026-12-31T08:00:00", datetime(2026, 12, 31, 8, tzinfo=UTC)),
        ("2026-12-31T08:00:00+02:00", datetime(2026, 12, 31, 6, tzinfo=UTC)),
        ("never", None),
        ("", None),
    ],
)
def test_when_a_key_expires(written: str, moment: datetime | None) -> None:
    assert one(entry_text(expires=written)).expires == (moment.timestamp() if moment else None)


@pytest.mark.parametrize(
    "bad",
    [
        entry_text(hash="blake2b:00:00"),
        entry_text(hash="$argon2id$v=19$"),
        entry_text(hash="sha256:" + str(HASH).partition(":")[2]),
        entry_text(id="short"),
        entry_text(name=""),
        entry_text(expires="tomorrow"),
        entry_text(disabled="yes"),
        entry_text(expiry="2026-12-31"),
        entry_text() + "  name: bob\n",
        entry_text(tenant="[a, b]"),
        "- alice\n",
        "- ? [a]\n  : b\n",
    ],
)
def test_a_mistake_refuses_that_key_only_and_names_its_line(bad: str) -> None:
    text = bad + entry_text(name="bob", id="b" * 12)
    mistake, entry = read_entries(text.encode(), "keys.yaml")
    assert isinstance(mistake, BadFile)
    assert str(mistake).startswith("keys.yaml:1: ")
    assert isinstance(entry, KeyEntry)
    assert len(parse_keys(text.encode(), "keys.yaml", POLICIES)) == 1


@pytest.mark.parametrize(
    "text", [b"alice: key\n", b"- {name: alice\n", b"\xff\xfe\xff", b"- *unknown\n", b"just text", b"- a\n---\n- b\n"]
)
def test_a_file_that_cannot_be_read_is_bad_as_a_whole(text: bytes) -> None:
    with pytest.raises(BadFile, match=r"keys\.yaml"):
        parse_keys(text, "keys.yaml", POLICIES)


@pytest.mark.parametrize("text", [b"", b"\n", b"# nothing yet\n", b"[]\n", b"---\n"])
def test_an_empty_file_has_no_keys(text: bytes) -> None:
    assert len(parse_keys(text, "keys.yaml", POLICIES)) == 0


def test_an_unknown_policy_refuses_that_key() -> None:
    text = entry_text(policy="reserch") + entry_text(id="b" * 12, policy="research")
    assert parse_keys(text.encode(), "keys.yaml", POLICIES).named("b" * 12, 0.0) == Caller("alice", None, "research")


def test_an_id_that_stands_twice_counts_once() -> None:
    text = entry_text() + entry_text(name="mallory")
    loaded = parse_keys(text.encode(), "keys.yaml", POLICIES)
    assert loaded.named("alice", 0.0) is not None
    assert loaded.named("mallory", 0.0) is None


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "10000-01-01", "9999-12-31T23:59:59+00:00"])
def test_the_first_and_the_last_day_there_is_break_nothing(day: str) -> None:
    text = entry_text(expires=day) + entry_text(id="b" * 12, name="bob")
    assert parse_keys(text.encode(), "keys.yaml", POLICIES).named("bob", 0.0) == Caller("bob")


def test_the_last_day_there_is_has_an_end_too() -> None:
    assert end_of("9999-12-31") == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert end_of("2026-12-31") == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert end_of("never") is None


@given(st.dates(), st.booleans())
def test_any_day_can_be_read(day: date, alone: bool) -> None:
    text = entry_text(expires=day.isoformat() if alone else f"{day.isoformat()}T12:00:00Z")
    assert len(parse_keys(text.encode(), "keys.yaml", POLICIES)) == 1


@given(st.binary(max_size=200))
def test_no_file_breaks_the_reader(text: bytes) -> None:
    with suppress(BadFile):
        parse_keys(text, "keys.yaml", POLICIES)
