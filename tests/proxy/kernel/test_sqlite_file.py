"""proxy/kernel/sqlite_file.py."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.kernel.sqlite_file import FileInUse, open_file
from proxy.kernel.store import StoreUnavailable
from tests.support.process import ROOT


def test_only_its_owner_may_read_the_file_and_its_log(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(0o644)
    connection = open_file(path)
    connection.execute("CREATE TABLE words (word)")
    assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {"a.db": 0o600, "a.db-wal": 0o600}
    connection.close()


def test_a_link_to_a_file_that_is_missing_makes_the_file(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    open_file(tmp_path / "link.db").close()
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


def test_a_second_one_that_opens_it_is_refused(tmp_path: Path) -> None:
    first = open_file(tmp_path / "a.db")
    with pytest.raises(FileInUse, match=r"another process has .*a\.db; one proxy at a time can use it"):
        open_file(tmp_path / "a.db", patience=0)
    first.close()
    open_file(tmp_path / "a.db", patience=0).close()


def test_a_second_try_of_the_process_that_has_it_lets_no_other_process_in(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first = open_file(path)
    with pytest.raises(FileInUse):
        open_file(path, patience=0)
    script = """
import sys
from pathlib import Path
from proxy.kernel.sqlite_file import FileInUse, open_file

try:
    open_file(Path(sys.argv[1]), patience=0)
except FileInUse:
    print("in use")
"""
    other = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, check=True)
    assert other.stdout == b"in use\n"
    first.close()


def test_its_size_is_bounded(tmp_path: Path) -> None:
    connection = open_file(tmp_path / "a.db", most_bytes=100_000)
    connection.execute("CREATE TABLE words (word)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO words VALUES (?)", ("x" * 200_000,))
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    connection.close()


@pytest.mark.parametrize("made", ["folder", "text", "missing"])
def test_what_cannot_be_used_is_named(made: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    if made == "folder":
        path.mkdir()
    elif made == "text":
        path.write_text("words " * 1000)
    else:
        path = path / "there" / "is" / "none"
    with pytest.raises(StoreUnavailable, match=str(path)):
        open_file(path)
