"""Load a policy file into `Loaded`: its typed settings and every mistake in it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Final

from config.entries import Entry
from config.interpolation import resolve
from config.model_validation import Checker
from config.problems import Path, Problem, in_order
from config.settings import Settings
from config.tree import Data, Node
from config.yaml_reader import MAX_BYTES, parse
from proxy.kernel.units import Context, Mistake

NO_FILE: Final = "command line"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading a policy file.

    Attributes:
        file: the file's name, as it was given.
        folder: where relative paths in the file start.
        source: the text of the file.
        root: the tree of its values, with references replaced.
        settings: None if there is any problem.
        problems: all mistakes, except those in the options of plugins: `proxy.chain.plan` finds these.
    """

    file: str
    folder: FilePath
    source: str = field(repr=False)
    root: Node = field(repr=False)
    settings: Settings | None
    problems: tuple[Problem, ...] = field(repr=False)

    def locate(self, path: Path) -> tuple[int, int]:
        """Return the line and column of the value at `path`, or of the last node that exists on the way to it."""
        node = self.root.at(path)
        return node.line, node.column

    def problem(self, path: Path, error: Mistake) -> Problem:
        """Return `error` as a problem of the value at `path`."""
        return Problem(self.file, *self.locate(path), path, error.message, error.hint)

    def key_problem(self, path: Path, error: Mistake) -> Problem:
        """Return `error` as a problem of the key at the end of `path`."""
        place = self.root.at(path[:-1]).keys.get(str(path[-1])) or self.locate(path)
        return Problem(self.file, *place, path, error.message, error.hint)

    @property
    def folders(self) -> tuple[FilePath, ...]:
        """The folders of plugins: `folder`, and if the policy file is a symbolic link, the folder of its target."""
        target = (self.folder / FilePath(self.file).name).resolve().parent
        return (self.folder,) if target == self.folder.resolve() else (self.folder, target)

    @property
    def checker(self) -> Checker:
        """Return the checker for the options of plugins in this file."""
        return _checker(self.file, self.folder, self.root)

    @property
    def entries(self) -> tuple[tuple[int, Entry], ...]:
        """Return the valid entries of the middleware list, each with its index; invalid ones are skipped."""
        found = []
        middleware = self.root.step("middleware")
        for index, node in enumerate(middleware.value if middleware and isinstance(middleware.value, list) else ()):
            try:
                found.append((index, Entry.parse(node.data())))
            except Mistake:
                continue
        return tuple(found)


def load(
    path: str | FilePath, *, env: Mapping[str, str] | None = None, changes: Mapping[str, Data] | None = None
) -> Loaded:
    """Read a policy file. Never raises: an unreadable file is reported as a problem.

    Args:
        path: the file.
        env: the variables that ``${NAME}`` refers to; by default the process's environment.
        changes: sections that replace those of the file, such as ``listen`` from the command line.
    """
    file = str(path)
    folder = FilePath(path).absolute().parent
    try:
        with open(path, "rb") as stream:
            source = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return _unusable(file, folder, [Problem(file, 0, 0, (), f"cannot be read: {error.strerror}")])
    return load_bytes(source, file=file, folder=folder, env=env, changes=changes)


def load_bytes(
    source: bytes,
    *,
    file: str,
    folder: FilePath,
    env: Mapping[str, str] | None = None,
    changes: Mapping[str, Data] | None = None,
) -> Loaded:
    """Read the content of a policy file."""
    root, problems = parse(source, file)
    if root is None:
        return _unusable(file, folder, problems)
    for name, section in (changes or {}).items():
        root = root.with_child(name, Node.of(section))
    problems += resolve(root, file, folder, os.environ if env is None else env)
    return _settle(file, folder, source.decode("utf-8-sig"), root, problems)


def with_sections(loaded: Loaded, names: Iterable[str], other: Loaded) -> Loaded:
    """Return a policy file with sections of another one in place of its own; without those that the other has not."""
    sections = {name: other.root.step(name) for name in names}
    own = loaded.root.value if isinstance(loaded.root.value, dict) else {}
    kept = {name: node for name, node in own.items() if name not in sections}
    root = replace(loaded.root, value={**kept, **{name: node for name, node in sections.items() if node is not None}})
    return _settle(loaded.file, loaded.folder, loaded.source, root, [])


def load_data(data: Mapping[str, Data], *, file: str = NO_FILE) -> Loaded:
    """Check settings that do not come from a file, for example those of `serve --backend`."""
    return _settle(file, FilePath.cwd(), "", Node.of(data), [])


def _settle(file: str, folder: FilePath, source: str, root: Node, problems: list[Problem]) -> Loaded:
    settings, found = _checker(file, folder, root).check(Settings, root)
    problems += found
    return Loaded(file, folder, source, root, settings if not problems else None, in_order(problems))


def _unusable(file: str, folder: FilePath, problems: list[Problem]) -> Loaded:
    return Loaded(file, folder, "", Node({}), None, in_order(problems))


def _checker(file: str, folder: FilePath, root: Node) -> Checker:
    policies = root.step("policies")
    names = frozenset(policies.value) if policies and isinstance(policies.value, dict) else frozenset()
    shown = {node.value: node.text or "" for _, node in root.walk() if node.resolved and isinstance(node.value, str)}
    return Checker(file, Context(folder, names, shown))
