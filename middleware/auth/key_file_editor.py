"""Change a key file, for ``ollama-proxy keys``.

People edit the file too: an entry is added at the end or changed in place, and every other byte, comments included,
stays. A change is written to a second file, which is renamed over the first. A running proxy therefore reads the old
file or the new one, never half of one. Concurrent changes wait for each other.
"""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import yaml

from middleware.auth.key_file_reader import compose, read_entries
from middleware.auth.keys import KeyEntry
from middleware.auth.watched import BadFile

_PLAIN: Final = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_@.+/]*")


def read_keys(path: Path) -> list[KeyEntry | BadFile]:
    """Return the entries in order, with a BadFile in place of an entry with a mistake; raises BadFile, OSError."""
    return list(read_entries(path.read_bytes() if path.exists() else b"", str(path)))


def add_key(path: Path, entry: KeyEntry) -> None:
    """Add `entry` at the end of the file, and create a missing file; raises BadFile, OSError."""
    _change(path, lambda text: _appended(text, entry, str(path)))


def revoke_keys(path: Path, name: str) -> list[KeyEntry]:
    """Disable the key with the id `name`, or else all keys of that name; return them as they were before.

    Disabled entries are left alone. Raises BadFile, OSError.
    """
    chosen: list[KeyEntry] = []

    def change(text: str) -> str:
        nonlocal chosen
        root = compose(text.encode(), str(path))
        nodes = root.value if root is not None else []
        entries = list(read_entries(text.encode(), str(path)))
        by_id = [e for e in entries if isinstance(e, KeyEntry) and e.id == name]
        by_name = [e for e in entries if isinstance(e, KeyEntry) and e.name == name]
        chosen = [entry for entry in by_id or by_name if not entry.disabled]
        for entry, node in reversed(list(zip(entries, nodes, strict=True))):
            if entry in chosen:
                text = _disabled(text, node)
        return text

    _change(path, change)
    return chosen


def _change(path: Path, change: Callable[[str], str]) -> None:
    path = path.resolve()  # keep a symbolic link a link
    with _alone(path.parent):
        before = _text(path)
        after = change(before)
        compose(after.encode(), str(path))  # check that the new file can be read
        if after != before:
            _replace(path, after)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig") if path.exists() else ""
    except UnicodeDecodeError:
        raise BadFile(f"{path}: this is not text in UTF-8") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder. The file is replaced, so a lock on the file would not outlive the first change."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _appended(text: str, entry: KeyEntry, source: str) -> str:
    root = compose(text.encode(), source)
    indent = ""
    if root is not None and root.flow_style:
        if root.value:
            raise BadFile(f"{source}: write the list with one `- name: …` for each key, so that keys can be added")
        text = text[: root.start_mark.index] + text[root.end_mark.index :].lstrip("\n")
    elif root is not None:
        indent = " " * root.start_mark.column
    if text and not text.endswith("\n"):
        text += "\n"
    lines = [f"{name}: {value}" for name, value in _written(entry)]
    return text + f"{indent}- " + f"\n{indent}  ".join(lines) + "\n"


def _written(entry: KeyEntry) -> Iterator[tuple[str, str]]:
    yield "name", _quoted(entry.name)
    yield "id", entry.id
    yield "hash", str(entry.hash)
    if entry.tenant:
        yield "tenant", _quoted(entry.tenant)
    if entry.policy:
        yield "policy", _quoted(entry.policy)
    if entry.created is not None:
        yield "created", _stamp(entry.created)
    if entry.expires is not None:
        yield "expires", _stamp(entry.expires)
    if entry.disabled:
        yield "disabled", "true"


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(int(moment), UTC).isoformat().replace("+00:00", "Z")


def _disabled(text: str, node: yaml.MappingNode) -> str:
    for name, value in node.value:
        if name.value == "disabled":
            return text[: value.start_mark.index] + "true" + text[value.end_mark.index :]
    last = node.value[-1][1]
    at = last.end_mark.index
    if node.flow_style:
        return text[:at] + ", disabled: true" + text[at:]
    indent = " " * node.value[0][0].start_mark.column
    end_of_line = text.find("\n", at)
    at = len(text) if end_of_line < 0 else end_of_line
    return f"{text[:at]}\n{indent}disabled: true{text[at:]}"
