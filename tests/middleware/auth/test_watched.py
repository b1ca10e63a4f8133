# ruff: noqa: ASYNC240  (a few bytes in a temporary folder)
import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from middleware.auth.watched import LOOK_EVERY, BadFile, Watched
from proxy.testing import ManualClock


def parse(text: bytes) -> str:
    if b"bad" in text:
        raise BadFile("file:1:2: bad")
    return text.decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("one")
    return file


def events(logs: list[Any]) -> list[str]:
    return [log["event"] for log in logs]


async def test_a_change_is_seen_within_a_second(file: Path) -> None:
    clock = ManualClock()
    watched = Watched(file, parse, clock=clock)
    file.write_text("two, longer")
    assert await watched.current() == "one"
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "two, longer"


async def test_an_atomic_replacement_of_the_same_size_and_time_is_a_change(file: Path, tmp_path: Path) -> None:
    clock = ManualClock()
    watched = Watched(file, parse, clock=clock)
    other = tmp_path / "other"
    other.write_text("two")
    status = file.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "two"


async def test_a_bad_file_changes_nothing_and_is_logged_once(file: Path) -> None:
    clock = ManualClock()
    watched = Watched(file, parse, clock=clock)
    file.write_text("bad!")
    with capture_logs() as logs:
        for _ in range(3):
            clock.advance(LOOK_EVERY)
            assert await watched.current() == "one"
    assert events(logs) == ["auth_file_kept_as_it_was"]
    assert logs[0]["problem"] == "file:1:2: bad"
    file.write_text("mended")
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "mended"


async def test_a_file_that_disappears_changes_nothing_until_it_is_back(file: Path) -> None:
    clock = ManualClock()
    watched = Watched(file, parse, clock=clock)
    file.unlink()
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "one"
    file.write_text("back")
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "back"


async def test_a_folder_that_cannot_be_entered_changes_nothing(file: Path) -> None:
    clock = ManualClock()
    watched = Watched(file, parse, clock=clock)
    folder = file.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("now a file, so that looking fails by another error than that of a missing one")
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "one"


async def test_a_slow_reading_that_ends_last_does_not_bring_back_a_revoked_key(file: Path) -> None:
    clock = ManualClock()
    reading, go_on = threading.Event(), threading.Event()

    def parse_slowly(text: bytes) -> str:
        if text == b"alice, bob":
            reading.set()
            assert go_on.wait(10)
        return text.decode()

    watched = Watched(file, parse_slowly, clock=clock)
    file.write_text("alice, bob")
    clock.advance(LOOK_EVERY)
    slow = asyncio.create_task(watched.current())
    await asyncio.to_thread(reading.wait, 10)
    file.write_text("alice")
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "alice"
    go_on.set()
    await slow
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "alice"


async def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    clock = ManualClock()
    with capture_logs() as logs:
        watched = Watched(tmp_path / "later", parse, clock=clock)
    assert events(logs) == ["auth_file_missing"]
    assert await watched.current() == ""
    (tmp_path / "later").write_text("now")
    clock.advance(LOOK_EVERY)
    assert await watched.current() == "now"


def test_a_bad_file_at_the_start_is_an_error(file: Path) -> None:
    file.write_text("bad")
    with pytest.raises(ValueError, match="file:1:2"):
        Watched(file, parse, clock=ManualClock())


def test_a_file_that_everybody_may_write_is_warned_about(file: Path) -> None:
    os.chmod(file, 0o666)
    with capture_logs() as logs:
        Watched(file, parse, clock=ManualClock())
    assert events(logs) == ["auth_file_writable_by_everybody"]


async def test_a_rewrite_in_place_with_size_and_time_kept_is_a_change(file: Path) -> None:
    clock = ManualClock()
    watched = Watched(file, parse, clock=clock)
    for text in ("two", "abc"):
        status = file.stat()
        file.write_text(text)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        clock.advance(LOOK_EVERY)
        assert await watched.current() == text


async def test_a_file_that_comes_to_rest_is_not_read_again(file: Path) -> None:
    clock = ManualClock()
    read: list[bytes] = []

    def parse(text: bytes) -> str:
        read.append(text)
        return text.decode()

    watched = Watched(file, parse, clock=clock)
    for _ in range(5):
        clock.advance(LOOK_EVERY)
        assert await watched.current() == "one"
    assert read == [b"one"]


async def test_the_loop_does_not_read_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    watched = Watched(file, parse, clock=clock)
    threads: list[int] = []
    read = Path.read_bytes

    def noted(path: Path) -> bytes:
        threads.append(threading.get_ident())
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    for text in ("one", "two", "two"):
        file.write_text(text)
        clock.advance(LOOK_EVERY)
        assert await watched.current() == text
    assert threads
    assert threading.get_ident() not in threads
