"""A file that is read again when it changes, while requests run."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from proxy.kernel.clock import Clock
from proxy.kernel.file_stamp import FileStamp, differ, look_again, look_at

LOOK_EVERY: Final = 1.0
"""Seconds between two checks of a file."""

T = TypeVar("T")
_log = structlog.get_logger("ollama_proxy.auth")


class BadFile(ValueError):
    """A file that cannot be used as a whole; its text says where (``path:line:column``) and what."""


class Watched(Generic[T]):
    """The parsed content of a file.

    A file that does not exist yet counts as empty, so that a proxy can start before its first key is made; it admits no
    caller. If the file turns bad or disappears later, the last good content stays, and the log says so.

    Args:
        path: the file.
        parse: bytes → value; raises BadFile. It reports mistakes in single entries itself. Runs in a thread.
        clock: the clock for the time between two checks.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T], *, clock: Clock) -> None:
        self.path = path
        self._parse = parse
        self._clock = clock
        stamp = self._noted(look_at(path))
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            text = b""
            _log.warning("auth_file_missing", file=str(path))
        self._known = stamp, parse(text)
        self._next_look = clock.monotonic() + LOOK_EVERY

    async def current(self) -> T:
        """Return the value. One caller a second checks the file and, if it changed, waits for the new value."""
        now = self._clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            known = self._known[0]
            stamp = self._noted(await look_again(self.path, known))
            if differ(known, stamp):
                await asyncio.to_thread(self._reload, stamp)
            elif self._known[0] is known:
                self._known = stamp, self._known[1]
        return self._known[1]

    def _reload(self, stamp: FileStamp | None) -> None:
        value = self._known[1]
        try:
            value = self._parse(self.path.read_bytes())
        except (BadFile, OSError) as error:
            _log.error("auth_file_kept_as_it_was", file=str(self.path), problem=str(error))
        else:
            _log.info("auth_file_loaded", file=str(self.path))
        # Set both together: if two threads read a long file, the first may end last, and the next check must notice.
        self._known = stamp, value

    def _noted(self, stamp: FileStamp | None) -> FileStamp | None:
        if stamp is not None and stamp.world_writable:
            _log.warning("auth_file_writable_by_everybody", file=str(self.path))
        return stamp
