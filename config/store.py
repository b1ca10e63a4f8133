"""The address of the store, as the policy file names it."""

import os
import re
from pathlib import Path
from typing import Final

from proxy.kernel.units import Mistake

REDIS: Final = re.compile(r"(async\+)?(unix|(redis|valkey)\+unix|(rediss?|valkeys?)(\+sentinel|\+cluster)?)://")
"""The beginning of the URL of a Redis, see `proxy.stores.redis_url`."""
FILE: Final = "sqlite:"


def check_store(text: str, folder: Path) -> str:
    """Return the address of a store; the path of a file is absolute then. Raises Mistake.

    Args:
        text: ``memory``, ``sqlite:`` and a path, or the URL of a Redis.
        folder: where relative paths start: the folder of the policy file.
    """
    if text.startswith(FILE):
        return f"{FILE}{_usable(text.removeprefix(FILE), folder)}"
    if text != "memory" and not is_shared(text):
        raise Mistake("expected memory, sqlite:PATH, or a URL like redis://host:6379/0")
    return text


def is_shared(text: str) -> bool:
    """Return whether a store is one that several processes share."""
    return REDIS.match(text) is not None


def _usable(text: str, folder: Path) -> Path:
    """Return the path of a database file that this process can make, read and write."""
    if not text or "\0" in text or text.startswith("//"):
        raise Mistake("expected a path behind sqlite:, like sqlite:state.db or sqlite:/var/lib/ollama-proxy/state.db")
    path = Path(os.path.abspath(folder / Path(text).expanduser()))
    if not path.parent.is_dir():
        raise Mistake(f"there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise Mistake(f"{path} is no file")
    for needed, rights in ((path.parent, os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK)):
        if needed.exists() and not os.access(needed, rights):
            raise Mistake(f"{needed} cannot be written by this user")
    return path
