"""proxy/chain/plugin_import.py: modules beside the policy file are found, shadow nothing, and are nobody else's."""

import importlib
import json
import os
import py_compile
import sys
from pathlib import Path

import pytest

import proxy
from proxy.chain.plugin_import import import_module
from proxy.chain.plugin_lookup import find
from proxy.kernel.units import Mistake

PLUGIN = "class P:\n    where = __file__\n    def __init__(self, app): ...\n"


def write(folder: Path, **files: str) -> None:
    """Write modules; ``acme__team`` is ``acme/team.py``."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize("name", ["kit_flat", "kit_space.team", "kit_package.team"])
def test_a_module_beside_the_policy_file_is_found(name: str, tmp_path: Path) -> None:
    write(tmp_path, kit_flat=PLUGIN, kit_space__team=PLUGIN, kit_package__team=PLUGIN)
    (tmp_path / "kit_package" / "__init__.py").touch()
    path = list(sys.path)
    module = import_module(name, [tmp_path])
    assert Path(str(module.__file__)).is_relative_to(tmp_path)
    assert import_module(name, [tmp_path]) is module
    assert sys.path == path


def test_it_may_import_what_stands_beside_it(tmp_path: Path) -> None:
    write(tmp_path, kit_team="from kit_helpers import P", kit_helpers=PLUGIN)
    assert import_module("kit_team", [tmp_path]).P.where == str(tmp_path / "kit_helpers.py")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("kit_other_helpers")


def test_two_policy_files_may_have_modules_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder, kit_acme__team="from kit_acme.base import P", kit_acme__base=PLUGIN)
    for folder in ("a", "b", "a"):
        module = import_module("kit_acme.team", [tmp_path / folder])
        assert module.P.where == str(tmp_path / folder / "kit_acme" / "base.py")
        plugin = find("kit_acme.team:P", (tmp_path / folder,))
        assert plugin.make.where == module.P.where  # type: ignore[attr-defined]


def test_one_that_was_written_after_the_first_look_is_found(tmp_path: Path) -> None:
    with pytest.raises(Mistake):
        import_module("kit_late.team", [tmp_path])
    write(tmp_path, kit_late__team=PLUGIN)
    import_module("kit_late.team", [tmp_path])
    with pytest.raises(Mistake):
        import_module("kit_late.second", [tmp_path])
    write(tmp_path, kit_late__second=PLUGIN)
    import_module("kit_late.second", [tmp_path])


def test_one_with_a_mistake_is_imported_when_that_is_mended(tmp_path: Path) -> None:
    write(tmp_path, kit_wrong="def")
    with pytest.raises(Mistake, match="cannot import kit_wrong: SyntaxError"):
        import_module("kit_wrong", [tmp_path])
    write(tmp_path, kit_wrong="import kit_not_there_at_all")
    with pytest.raises(Mistake, match="No module named 'kit_not_there_at_all'") as caught:
        import_module("kit_wrong", [tmp_path])
    assert caught.value.hint is not None
    write(tmp_path, kit_wrong=PLUGIN)
    import_module("kit_wrong", [tmp_path])


def test_what_is_installed_is_not_shadowed(tmp_path: Path) -> None:
    write(tmp_path, json=PLUGIN, proxy__app=PLUGIN, starlette__routing=PLUGIN, middleware__cors=PLUGIN)
    assert import_module("json", [tmp_path]) is json
    assert import_module("proxy", [tmp_path]) is proxy
    for use in ("json:P", "proxy.app:P", "starlette.routing:P", "middleware.cors:P"):
        with pytest.raises(Mistake, match="there is no 'P'") as caught:
            find(use, (tmp_path,))
        assert str(caught.value.hint).endswith("has the same name, and must be renamed")
    write(tmp_path, json__team=PLUGIN)
    (tmp_path / "json.py").unlink()
    with pytest.raises(Mistake, match=r"cannot import json\.team") as caught:
        import_module("json.team", [tmp_path])
    assert str(caught.value.hint).endswith("has the same name, and must be renamed")


def test_it_is_said_where_was_searched(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="cannot import kit_no: ModuleNotFoundError: No module named 'kit_no'") as caught:
        import_module("kit_no", [tmp_path])
    assert caught.value.hint == f"searched: the installed packages and {tmp_path}"


OPEN = [".", "kit_open", "kit_open/team.py", "kit_open/__init__.py", "kit_open/late.py", "kit_open/below", "kit_by.py"]


@pytest.mark.parametrize("writable", [*OPEN, ".."])
def test_what_everybody_may_write_is_not_run(writable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "policy"
    write(folder, kit_open__team="import kit_open.late\nfrom kit_open.below import deep\nimport kit_by\nraise KeyError")
    write(folder, kit_open__late="", kit_open__below__deep="", kit_by="")
    (folder / "kit_open" / "__init__.py").touch()
    (folder / writable).resolve().chmod(0o777)
    with pytest.raises(Mistake, match=r"cannot import kit_open\.team: everybody may write") as caught:
        import_module("kit_open.team", [folder])
    assert caught.value.hint == f"chmod o-w {(folder / writable).resolve()}"
    assert "kit_open.team" not in sys.modules
    if writable == "..":  # as /tmp is: nobody can replace what is in it
        tmp_path.chmod(0o1777)
    else:  # a config map of Kubernetes has such modes, and is mounted read-only
        monkeypatch.setattr(os, "statvfs", lambda path: Mounted())
    with pytest.raises(Mistake, match="KeyError"):
        import_module("kit_open.team", [folder])


def test_nor_what_a_package_imports_when_it_runs(tmp_path: Path) -> None:
    write(tmp_path, kit_runs__team="def late():\n    import kit_runs.late", kit_runs__late="raise KeyError")
    (tmp_path / "kit_runs" / "late.py").chmod(0o666)
    team = import_module("kit_runs.team", [tmp_path])
    with pytest.raises(Mistake, match="everybody may write"):
        team.late()


@pytest.mark.parametrize("legacy", [True, False])
def test_nor_bytecode(legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"kit_code_{legacy}".lower()
    write(tmp_path, **{name: "raise KeyError"})
    source = tmp_path / f"{name}.py"
    compiled = Path(py_compile.compile(str(source), str(source.with_suffix(".pyc")) if legacy else None) or "")
    compiled.chmod(0o666)
    if legacy:  # a file of bytecode alone is a module
        source.unlink()
    else:
        source.write_text("pass         #")  # of the same length
        os.utime(source, ns=(0, 0))
        py_compile.compile(str(source))
        source.write_text("clean = True #")
        os.utime(source, ns=(0, 0))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    if legacy:
        with pytest.raises(Mistake, match="everybody may write"):
            import_module(name, [tmp_path])
    else:
        before = compiled.read_bytes()
        assert import_module(name, [tmp_path]).clean
        assert compiled.read_bytes() == before


def test_what_is_installed_below_the_folder_is_not_its(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "venv" / "lib"
    write(installed, kit_installed=PLUGIN)
    (installed / "kit_installed.py").chmod(0o666)
    write(tmp_path, kit_uses="import kit_installed")
    monkeypatch.syspath_prepend(str(installed))
    import_module("kit_uses", [tmp_path])


@pytest.mark.parametrize("says", ["import sys; sys.exit()", "raise SystemExit('bye')"])
def test_one_that_wants_to_end_the_process_does_not(says: str, tmp_path: Path) -> None:
    write(tmp_path, kit_exits=says)
    with pytest.raises(Mistake, match="cannot import kit_exits: SystemExit"):
        import_module("kit_exits", [tmp_path])


class Mounted:
    f_flag = os.ST_RDONLY
