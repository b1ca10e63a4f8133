"""Tells whether a file has changed since it was read.

Size, inode and time of modification are not enough: who writes a file can set its time back. The time of the last
change of its status (``st_ctime``) cannot be set by anybody, but it has ticks, of some milliseconds on most file
systems and of two seconds on a few: what is written twice within a tick looks alike. So of a file that changed just now
the contents are compared, too, until it has been at rest for longer than a tick.
"""

import os
import time
from asyncio import to_thread
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

REST: Final = 4.0
"""Seconds after which a file is at rest: more than the longest tick of a file system and the wait between two looks."""

LARGEST: Final = 4 * 1024 * 1024
"""Bytes of a file whose contents are compared."""


class FileStamp(NamedTuple):
    """The state of a file at one look.

    Attributes:
        status: device, inode, size, and when it was modified and changed, nanoseconds.
        young: whether it had changed just before.
        digest: of its contents; None where they need not be compared.
        world_writable: whether anybody may write it.
    """

    status: tuple[int, int, int, int, int]
    young: bool
    digest: bytes | None
    world_writable: bool


def differ(before: FileStamp | None, now: FileStamp | None) -> bool:
    """Return whether the file was written, came or went between two looks."""
    if before is None or now is None:
        return before is not now
    if before.status != now.status:
        return True
    return before.digest is not None and now.digest is not None and before.digest != now.digest


def look_at(path: Path, before: FileStamp | None = None) -> FileStamp | None:
    """Return what a file looks like now, through symbolic links; None where there is none to look at.

    Args:
        path: the file.
        before: what it looked like at the look before; it decides whether contents have to be compared.
    """
    try:
        stamp = _stat(path)
        return stamp._replace(digest=_digest(path)) if _is_compared(stamp, before) else stamp
    except OSError:
        return None


async def look_again(path: Path, before: FileStamp | None) -> FileStamp | None:
    """Return the same for the event loop: contents are read in a thread."""
    try:
        stamp = _stat(path)
        if _is_compared(stamp, before):
            stamp = stamp._replace(digest=await to_thread(_digest, path))
    except OSError:
        return None
    return stamp


def _stat(path: Path) -> FileStamp:
    status = os.stat(path)
    return FileStamp(
        (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        young=abs(time.time() - status.st_ctime) < REST,
        digest=None,
        world_writable=bool(status.st_mode & 0o002),
    )


def _is_compared(stamp: FileStamp, before: FileStamp | None) -> bool:
    return (stamp.young or (before is not None and before.young)) and stamp.status[2] <= LARGEST


def _digest(path: Path) -> bytes:
    return blake2b(path.read_bytes(), digest_size=16).digest()
