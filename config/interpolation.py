"""Replace ``${ENV}``, ``${ENV:-default}`` and ``file:/path`` in values, after the YAML has been read.

The inserted text is not read as YAML and not searched for further references. It stays secret: the node keeps the text
of the policy file, and every print shows that text.
"""

import re
import stat
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Final

from config.problems import Problem
from config.tree import Node
from proxy.kernel.units import Mistake, suggest

MAX_FILE_BYTES: Final = 64 * 2**10

_REFERENCE: Final = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")
_FILE: Final = "file:"


def resolve(root: Node, file: str, folder: FilePath, env: Mapping[str, str]) -> list[Problem]:
    """Replace every reference in the values of `root`, in place, and return the problems. Keys are not changed.

    ``$$`` stands for one ``$``; a ``$`` before any character but ``{`` or ``$`` stands for itself. ``file:`` counts
    only at the beginning of a value. Its path may hold references; a relative path starts in `folder`. One line end at
    the end of the file is dropped.
    """
    problems: list[Problem] = []
    done: set[int] = set()
    for path, node in root.walk():
        if id(node) in done or not isinstance(node.value, str):
            continue
        done.add(id(node))
        try:
            _resolve(node, node.value, folder, env)
        except Mistake as error:
            node.reported = True
            problems.append(Problem(file, node.line, node.column, path, error.message, error.hint))
    return problems


def _resolve(node: Node, written: str, folder: FilePath, env: Mapping[str, str]) -> None:
    value = substitute(written, env)
    names_file = written.startswith(_FILE)
    if names_file:
        value = _read(folder / value.removeprefix(_FILE))
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Mistake("the value this stands for is not UTF-8")
    node.resolved = names_file or any(match[2] for match in _REFERENCE.finditer(written))
    node.value = value


def substitute(text: str, env: Mapping[str, str]) -> str:
    """Return `text` with its references to `env` replaced, or raise Mistake.

    If a default is given, an empty variable counts as unset, as in a shell.
    """

    def replace(match: re.Match[str]) -> str:
        dollar, name, default, malformed = match.groups()
        if dollar:
            return "$"
        if malformed:
            raise Mistake("expected ${NAME} or ${NAME:-default}", "write $${ for a literal ${")
        value = env.get(name)
        if default is not None:
            return value or str(default)
        if value is None:
            hint = suggest(name, env) or f"set it, or write ${{{name}:-default}}"
            raise Mistake(f"the environment variable {name} is not set", hint)
        return value

    return _REFERENCE.sub(replace, text)


def _read(path: FilePath) -> str:
    if "\0" in str(path):
        raise Mistake("expected a path after file:")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Mistake("the file this names is not a regular file")
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Mistake(f"the file this names cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise Mistake(f"the file this names is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Mistake("the file this names is not UTF-8") from None
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
