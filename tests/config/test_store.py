"""config/store.py."""

import os
from pathlib import Path

import pytest

from config.store import check_store, is_shared
from proxy.kernel.units import Mistake
from proxy.stores.redis_url import open_storage

REDIS = [
    "redis://:password@host:6379/0",
    "rediss://host:6379/0?ssl_cert_reqs=none",
    "unix:///run/redis.sock",
    "redis+unix:///run/redis.sock",
    "redis+sentinel://a:1,b:2/name",
    "rediss+sentinel://a:1,b:2/name",
    "redis+cluster://a:1,b:2",
    "rediss+cluster://a:1,b:2",
    "valkey://host:6379",
    "valkeys://host:6379",
    "valkey+sentinel://a:1/name",
    "valkeys+cluster://a:1",
    "async+redis://host:6379",
]


@pytest.mark.parametrize("text", REDIS)
async def test_every_address_of_a_redis_that_can_be_opened_is_one(text: str, tmp_path: Path) -> None:
    assert check_store(text, tmp_path) == text
    assert is_shared(text)
    open_storage(text)


def test_what_one_process_has_for_itself_is_shared_by_none(tmp_path: Path) -> None:
    for text in ("memory", "sqlite:a://b"):
        (tmp_path / "a:").mkdir(exist_ok=True)
        assert not is_shared(check_store(text, tmp_path))


def test_a_path_starts_in_the_folder_of_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert check_store("sqlite:state.db", tmp_path) == f"sqlite:{tmp_path}/state.db"
    assert check_store("sqlite:./data/../data/state.db", tmp_path) == f"sqlite:{tmp_path}/data/state.db"
    assert check_store(f"sqlite:{tmp_path}/x.db", Path("/")) == f"sqlite:{tmp_path}/x.db"
    assert not list((tmp_path / "data").iterdir())  # nothing is made


@pytest.mark.parametrize(
    "text", ["", "memroy", "redis:6379", "/run/redis.sock", "state.db", "mysql://h", "redis+mysql://h"]
)
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
