"""proxy/journal/open.py."""

from pathlib import Path

import pytest

from proxy.journal.memory import MemoryJournal
from proxy.journal.open import open_journal
from proxy.journal.redis import RedisJournal
from proxy.journal.sqlite import SqliteJournal
from proxy.services.system_clock import SystemClock


def test_memory() -> None:
    assert isinstance(open_journal("memory", SystemClock()), MemoryJournal)


def test_a_file_is_not_opened_yet(tmp_path: Path) -> None:
    journal = open_journal(f"sqlite:{tmp_path}/state.db", SystemClock())
    assert isinstance(journal, SqliteJournal)
    assert (journal.name, journal.durable, journal.shared) == (f"sqlite:{tmp_path}/state.db", True, False)
    assert not list(tmp_path.iterdir())


async def test_a_redis_is_not_asked_yet() -> None:
    journal = open_journal("redis://ann:secret@127.0.0.1:1/0", SystemClock())
    assert isinstance(journal, RedisJournal)
    assert (journal.name, journal.durable, journal.shared) == ("redis://127.0.0.1:1/0", True, True)
    assert "secret" not in repr(journal)


@pytest.mark.parametrize("url", ["", "memroy", "redis", "state.db"])
def test_what_is_no_store(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:PATH"):
        open_journal(url, SystemClock())
