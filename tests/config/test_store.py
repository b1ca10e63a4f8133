"""config/store.py."""

import os
from pathlib import Path

import pytest

from config.store import check_store
from proxy.kernel.units import Mistake


@pytest.mark.parametrize("text", ["memory", "redis://host:6379/0", "valkey://host", "redis+cluster://a:1,b:2"])
def test_an_address_stays_as_it_is(text: str, tmp_path: Path) -> None:
    assert check_store(text, tmp_path) == text


def test_a_path_starts_in_the_folder_of_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert check_store("sqlite:state.db", tmp_path) == f"sqlite:{tmp_path}/state.db"
    assert check_store("sqlite:./data/../data/state.db", tmp_path) == f"sqlite:{tmp_path}/data/state.db"
    assert check_store(f"sqlite:{tmp_path}/x.db", Path("/")) == f"sqlite:{tmp_path}/x.db"
    assert not list((tmp_path / "data").iterdir())  # nothing is made


@pytest.mark.parametrize("text", ["", "memroy", "redis:6379", "/run/redis.sock", "state.db", "mysql://h"])
def test_what_is_no_store(text: str, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="sqlite:PATH"):
        check_store(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sqlite:", "expected a path"),
        ("sqlite:///abs/state.db", "expected a path"),
        ("sqlite:none/state.db", "there is no folder"),
        ("sqlite:folder", "is no file"),
    ],
)
def test_a_path_that_cannot_be_used_is_said(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Mistake, match=said):
        check_store(text, tmp_path)


@pytest.mark.parametrize("closed", ["folder", "file"])
def test_what_cannot_be_written_is_said(closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    path.touch()
    kept = {"folder": tmp_path, "file": path}[closed]
    access = os.access
    monkeypatch.setattr(os, "access", lambda asked, mode: asked != kept and access(asked, mode))  # root may do all
    with pytest.raises(Mistake, match=f"{kept} cannot be written by this user"):
        check_store("sqlite:state.db", tmp_path)
