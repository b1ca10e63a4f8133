"""Importing the module of a plugin: an installed one, or one in the folder of the policy file.

This is the only place that imports by a name that is known only at run time.
"""

import importlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Final

from proxy.kernel.units import Mistake

_lock: Final = RLock()
_beside: Final[dict[tuple[Path, ...], dict[str, ModuleType]]] = {}
"""The modules that came from the folders of a policy file, by their names.

Two policy files may both have an ``acme/team.py``, and Python knows one module of a name: those of the other file are
set aside while modules of this one are imported.
"""


class _Open(Mistake):
    """Everybody could have written the code."""


class _FromSource(SourceFileLoader):
    """Loads a module from its source, never from bytecode, which somebody else may have put beside it."""

    def path_stats(self, path: str) -> dict[str, float]:
        """Raise OSError; then Python neither reads nor writes bytecode."""
        raise OSError(path)


class _Guard(MetaPathFinder):
    """Finds what Python finds, and raises _Open for a module in one of `folders` that everybody may write.

    It stays in Python's list of finders: a package that was imported from a folder may import more at any time.
    """

    def __init__(self) -> None:
        self.folders: set[Path] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what PathFinder returns; without bytecode where it is in one of the folders."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            return None
        packages = spec.submodule_search_locations
        for place in map(Path, packages if packages is not None else filter(None, [spec.origin])):
            folder = _folder_above(place, fullname)
            if folder in self.folders:
                _refuse_open(Path(spec.origin) if spec.origin else place, folder)
                if type(spec.loader) is SourceFileLoader:
                    spec.loader = _FromSource(spec.loader.name, spec.loader.path)
        return spec

    def watch(self, folders: Sequence[Path]) -> None:
        """Check what is in `folders` from now on, except in those that Python searches anyway."""
        self.folders.update(folder.absolute() for folder in folders if str(folder) not in sys.path)
        if self not in sys.meta_path:
            sys.meta_path.insert(sys.meta_path.index(PathFinder), self)


_guard: Final = _Guard()


def import_module(name: str, folders: Sequence[Path] = ()) -> ModuleType:
    """Return the module `name`; raises Mistake where it cannot be imported.

    What is installed, and Python's own, is found first. Only a module that is not there is looked for in `folders`: a
    file beside the policy file replaces no other module. The folders stand at the end of Python's search path only
    while modules of theirs are imported, so what such a module needs beside it must be imported at its top.
    """
    key = tuple(folders)
    with _lock:
        if key:
            _guard.watch(key)
            importlib.invalidate_caches()  # a file may be newer than Python's last look at its folder
        _set_others_aside(key)
        known = name.partition(".")[0] in _beside.get(key, ())
        try:
            if not known:
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name is not None and f"{name}.".startswith(f"{error.name}.")
            if not (missing and _stands_in(name, key)):
                raise _mistake(name, error, key if missing else ()) from error
        except (Exception, SystemExit) as error:  # whatever a foreign module does when it is imported
            raise _mistake(name, error) from error
        try:
            with _searched(key):
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise _mistake(name, error, key) from error
        except (Exception, SystemExit) as error:  # as above
            raise _mistake(name, error) from error


def hidden_by(module: ModuleType, folders: Sequence[Path]) -> str | None:
    """Return a hint if `folders` have a module of the name of `module`, which was found elsewhere; else None."""
    top = module.__name__.partition(".")[0]
    origin = _origin(module)
    for folder in folders:
        spec = PathFinder.find_spec(top, [str(folder)])
        if spec is not None and not (origin and origin.is_relative_to(folder.resolve())):
            return f"{top} is {origin or 'a module of Python'}; {folder / top} has the same name, and must be renamed"
    return None


def _mistake(name: str, error: BaseException, searched: Sequence[Path] = ()) -> Mistake:
    if isinstance(error, _Open):
        return Mistake(f"cannot import {name}: {error}", error.hint)
    hint = None
    if searched:
        hint = " and ".join(("searched: the installed packages", *map(str, searched)))
        loaded = sys.modules.get(name.partition(".")[0])
        hint = (hidden_by(loaded, searched) if loaded is not None else None) or hint
    return Mistake(f"cannot import {name}: {type(error).__name__}: {error}", hint)


def _stands_in(name: str, folders: Sequence[Path]) -> bool:
    """Tell whether one of `folders` has `name`, or the package that it is in."""
    top = name.partition(".")[0]
    return any(PathFinder.find_spec(top, [str(folder)]) is not None for folder in folders)


def _folder_above(place: Path, name: str) -> Path | None:
    """Return the folder that was searched, where the module `name` was found at `place`: a file or a package."""
    above = place.parents
    depth = name.count(".")
    return above[depth] if depth < len(above) else None


def _refuse_open(file: Path, folder: Path) -> None:
    """Raise _Open where everybody may write `file`, or a folder from it up to `folder`, or may replace one above.

    In a folder that is sticky, as /tmp is, nobody replaces what is another's.
    """
    inside = [file, *(parent for parent in file.parents if parent.is_relative_to(folder))]
    for path in (*inside, *folder.parents, *file.resolve().parents):
        if _everybody_writes(path) and (path in inside or not path.stat().st_mode & stat.S_ISVTX):
            raise _Open(f"everybody may write to {path}, and it would be run as part of the proxy", f"chmod o-w {path}")


def _everybody_writes(path: Path) -> bool:
    """Tell whether any user can change `path`; a file system that is mounted read-only, nobody can."""
    try:
        mode = path.stat().st_mode
        return bool(mode & stat.S_IWOTH) and not os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:  # not there
        return False


@contextmanager
def _searched(folders: Sequence[Path]) -> Iterator[None]:
    """Have `folders` at the end of the search path; remember which modules came from them."""
    before, added = set(sys.modules), [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        sys.path[:] = [entry for entry in sys.path if entry not in added]
        roots = [folder.resolve() for folder in folders]
        new = {name: module for name, module in sys.modules.items() if name not in before}
        _beside.setdefault(tuple(folders), {}).update(
            (name, module)
            for name, module in new.items()
            if (origin := _origin(module)) is not None and any(origin.is_relative_to(root) for root in roots)
        )


def _set_others_aside(folders: tuple[Path, ...]) -> None:
    """Put the modules that came from `folders` into Python's table of modules, and take out those of other ones."""
    for other, modules in _beside.items():
        if other != folders:
            for name, module in modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
    sys.modules.update(_beside.get(folders, {}))


def _origin(module: ModuleType) -> Path | None:
    """Return the file of a module, or the folder of a package without ``__init__.py``; None for one without either."""
    if file := getattr(module, "__file__", None):
        return Path(file).resolve()
    return next((Path(path).resolve() for path in getattr(module, "__path__", ())), None)
