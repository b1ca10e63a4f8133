import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.auth.key_file_editor import add_key, read_keys, revoke_keys
from middleware.auth.keys import KeyEntry, SecretHash, new_key
from middleware.auth.watched import BadFile

NOW = 1_800_000_000.0
HASH = SecretHash.of("x" * 32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def entries(file: Path) -> list[KeyEntry]:
    read = read_keys(file)
    assert all(isinstance(entry, KeyEntry) for entry in read), read
    return [entry for entry in read if isinstance(entry, KeyEntry)]


def test_a_new_file_is_for_its_owner_only(file: Path) -> None:
    add_key(file, new_key("alice", now=NOW)[1])
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in entries(file)] == ["alice"]


@pytest.mark.parametrize(
    "before",
    [
        "",
        "# our keys",
        "# our keys\n\n",
        "[]\n",
        "# none yet\n[]   # add\n",
        f"- name: bob\n  id: {'b' * 12}\n  hash: {HASH}   # his laptop\n\n# end\n",
        f"  - name: bob\n    id: {'b' * 12}\n    hash: {HASH}",
        f"- name: bob\r\n  id: {'b' * 12}\r\n  hash: {HASH}\r\n",
    ],
)
def test_adding_leaves_every_other_line_alone(file: Path, before: str) -> None:
    file.write_bytes(before.encode())
    count = len(entries(file))
    key, entry = new_key("alice", now=NOW, tenant="physics", policy="research", expires=NOW + 60)
    add_key(file, entry)
    text = file.read_bytes().decode()
    assert all(line in text for line in before.replace("[]", "").splitlines())
    added = entries(file)[-1]
    assert len(entries(file)) == count + 1
    assert (added.name, added.id, added.hash) == (entry.name, entry.id, entry.hash)
    assert (added.tenant, added.policy, added.created, added.expires) == ("physics", "research", NOW, NOW + 60)
    assert key not in text


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60))
def test_any_name_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    add_key(file, new_key(name, now=NOW)[1])
    assert [entry.name for entry in entries(file)] == [name]


def test_a_list_in_braces_cannot_be_added_to(file: Path) -> None:
    file.write_text(f"[{{name: bob, id: {'b' * 12}, hash: '{HASH}'}}]\n")
    before = file.read_bytes()
    with pytest.raises(BadFile, match="one `- name"):
        add_key(file, new_key("alice", now=NOW)[1])
    assert file.read_bytes() == before


def test_a_file_that_is_not_yaml_is_left_alone(file: Path) -> None:
    for text in (b"- {name: alice\n", b"\xff\xfe\x00"):
        file.write_bytes(text)
        with pytest.raises(BadFile):
            add_key(file, new_key("alice", now=NOW)[1])
        with pytest.raises(BadFile):
            revoke_keys(file, "alice")
        assert file.read_bytes() == text


SEVERAL = f"""\
# the team
- name: alice
  id: aaaaaaaaaaaa
  hash: {HASH}    # laptop

- {{name: alice, id: bbbbbbbbbbbb, hash: '{HASH}'}}   # 日本 😀
- name: alice
  id: cccccccccccc
  disabled: false  # for now
  hash: {HASH}
- name: bob
  id: dddddddddddd
  hash: {HASH}
  disabled: true
- oops
- name: bob
  id: eeeeeeeeeeee
  hash: {HASH}"""


@pytest.mark.parametrize(
    ("name", "revoked"),
    [
        ("alice", ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"]),
        ("bob", ["eeeeeeeeeeee"]),
        ("cccccccccccc", ["cccccccccccc"]),
        ("nobody", []),
    ],
)
def test_revoking_disables_and_keeps_everything_else(file: Path, name: str, revoked: list[str]) -> None:
    file.write_text(SEVERAL)
    assert [entry.id for entry in revoke_keys(file, name)] == revoked
    now = {entry.id: entry.disabled for entry in read_keys(file) if isinstance(entry, KeyEntry)}
    assert {key for key, disabled in now.items() if disabled} == {*revoked, "dddddddddddd"}
    text = file.read_text()
    for comment in ("# the team", "# laptop", "# 日本 😀", "# for now", "- oops"):
        assert comment in text
    assert revoke_keys(file, name) == []


def test_mode_and_symbolic_link_survive(file: Path, tmp_path: Path) -> None:
    file.touch(0o640)
    os.chmod(file, 0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    add_key(link, new_key("alice", now=NOW)[1])
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in entries(file)] == ["alice"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.yaml", "link.yaml"]


def test_a_failed_write_leaves_the_file_and_no_litter(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(file, new_key("alice", now=NOW)[1])
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add_key(file, new_key("bob", now=NOW)[1])
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["keys.yaml"]


def test_changes_at_the_same_time_are_all_kept(file: Path) -> None:
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        add_key(file, new_key(f"user-{number}", now=NOW)[1])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.name for entry in entries(file)) == [f"user-{number}" for number in range(8)]
