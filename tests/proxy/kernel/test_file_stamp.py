import os
import threading
from pathlib import Path

import pytest

from proxy.kernel import file_stamp
from proxy.kernel.file_stamp import FileStamp, differ, look_again, look_at


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("one")
    return file


def rewrite(file: Path, text: str) -> None:
    """Write `text` in place and set the times back, as somebody does who does not want it to be seen."""
    status = file.stat()
    file.write_text(text)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_nothing_happened(file: Path) -> None:
    first = look_at(file)
    assert first is not None
    assert not differ(first, look_at(file, first))


def test_a_rewrite_in_place_with_size_and_time_kept_is_seen(file: Path) -> None:
    before = look_at(file)
    rewrite(file, "two")
    assert differ(before, look_at(file, before))


def test_a_rewrite_within_one_tick_is_seen(file: Path) -> None:
    """As on a file system that counts seconds: all that `stat` says is the same."""
    before = look_at(file)
    file.write_text("two")
    after = look_at(file, before)
    assert before is not None
    assert after is not None
    assert differ(before, after._replace(status=before.status))


def test_of_a_file_at_rest_the_status_is_enough(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    young = look_at(file)
    monkeypatch.setattr(file_stamp, "REST", 0.0)
    settling = look_at(file, young)
    resting = look_at(file, settling)
    assert young is not None
    assert settling is not None
    assert resting is not None
    assert [look.digest is None for look in (young, settling, resting)] == [False, False, True]
    assert not differ(young, settling)
    assert not differ(settling, resting)


def test_it_comes_and_goes(file: Path, tmp_path: Path) -> None:
    there = look_at(file)
    file.unlink()
    assert look_at(file, there) is None
    assert differ(there, None)
    assert differ(None, there)
    assert not differ(None, None)


def test_a_file_that_everybody_may_write(file: Path) -> None:
    for mode, told in ((0o600, False), (0o666, True)):
        file.chmod(mode)
        stamp = look_at(file)
        assert isinstance(stamp, FileStamp)
        assert stamp.world_writable is told


async def test_contents_are_compared_off_the_loop(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    digest = file_stamp._digest

    def noted(path: Path) -> bytes:
        threads.append(threading.get_ident())
        return digest(path)

    monkeypatch.setattr(file_stamp, "_digest", noted)
    before = look_at(file)
    rewrite(file, "two")
    threads.clear()
    assert differ(before, await look_again(file, before))
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    monkeypatch.setattr(file_stamp, "REST", 0.0)
    at_rest = await look_again(file, None)
    assert at_rest == await look_again(file, at_rest)
    assert len(threads) == 1
    file.unlink()  # noqa: ASYNC240
    assert await look_again(file, at_rest) is None
