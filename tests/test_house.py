"""The house test: which way imports go, that every source file has its test, and that generated files are current."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "middleware", "config")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {module_of(path): path for path in SOURCES}

LOADERS = {"proxy.chain.plugin_import"}
"""Who may import by a name that is known only at run time: plugins, as the policy file names them."""
OPEN_IMPORTLIB = {"importlib.metadata", "importlib.resources", "importlib.util.find_spec"}
"""What may be used of `importlib`: it reads, or asks whether something is there."""


def room_of(module: str) -> str:
    """The folder whose rule a module follows; every plugin is one of its own."""
    parts = module.split(".")
    if len(parts) == 2 and parts[0] == "proxy" and not (ROOT / "proxy" / parts[1]).is_dir():
        return "proxy"
    return parts[0] if parts[0] == "config" else ".".join(parts[:2])


def may_import(room: str) -> frozenset[str]:
    """What the docstring of a folder says after *May import:*, or that of `middleware` for its plugins."""
    package = "middleware" if room.startswith("middleware") else room
    docstring = ast.get_docstring(tree_of(MODULES[package])) or ""
    said = re.search(r"^May import: (.+)\.$", docstring, re.MULTILINE)
    assert said, f"{package}/__init__.py does not say what it may import"
    return frozenset(said[1].replace("`", "").split(", ")) - {"nothing"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """What a file imports of ours, wherever in it: ``module`` or ``module:name``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{module}: relative import"
            assert node.level == 0, f"{module}: relative import"
            if node.module.split(".")[0] in PACKAGES:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield full if full in MODULES else f"{node.module}:{alias.name}"


def ways_around(tree: ast.AST) -> Iterator[str]:
    """What would import without an import statement."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"__import__", "exec", "eval"}:
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.modules":
            yield "sys.modules"
        for name in names:
            if (
                name.split(".")[0] in {"pkgutil", "runpy", "imp", "pydoc", "zipimport"}
                or name == "sys.modules"
                or (
                    name.split(".")[0] == "importlib"
                    and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in OPEN_IMPORTLIB)
                )
            ):
                yield name


def forbidden(module: str, tree: ast.AST) -> list[str]:
    """What a file imports that the rule of its folder does not name."""
    room = room_of(module)
    found = [] if module in LOADERS else list(ways_around(tree))
    rule = may_import(room)
    if "everything" in rule:
        return found
    for name in imports(tree, module):
        target = name.partition(":")[0]
        if target == "proxy" or room_of(target) in rule | {room} or name in rule:
            continue
        found.append(name)
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_folder_imports_only_what_its_docstring_names(module: str) -> None:
    assert not forbidden(module, tree_of(MODULES[module]))


SIDEWAYS = [
    ("proxy.pool.pool", "from proxy.server.guard import GuardedProtocol"),
    ("proxy.pool.pool", "if TYPE_CHECKING:\n    from proxy.server import guard"),
    ("proxy.kernel.exchange", "import proxy.relay.endpoint"),
    ("proxy.kernel.exchange", "def late():\n    from config import load"),
    ("middleware.cors", "from proxy.pool.pool import Pool"),
    ("middleware.cors", "from middleware.auth.caller import caller_of"),
    ("middleware.cors", "import importlib\nimportlib.import_module('proxy.pool.pool')"),
    ("middleware.cors", "from importlib import import_module"),
    ("middleware.cors", "__import__('proxy.pool.pool')"),
    ("middleware.cors", "import sys\nsys.modules['proxy.pool.pool']"),
    ("proxy.simulator.server", "from proxy.kernel import asgi"),
    ("config.load", "from proxy.chain.plan import plan"),
    ("proxy.chain.build", "from middleware.cors import Cors"),
]


@pytest.mark.parametrize(("module", "source"), SIDEWAYS)
def test_a_sideways_import_is_seen(module: str, source: str) -> None:
    assert module in MODULES
    assert forbidden(module, ast.parse(source))


def test_tests_start_processes_in_one_way() -> None:
    """`start_process` gives them the signals that a test sends."""
    for path in (ROOT / "tests").rglob("*.py"):
        if path not in (ROOT / "tests" / "support" / "process.py", Path(__file__)):
            assert "create_subprocess_" not in path.read_text("utf-8"), path


def test_nothing_that_serves_imports_the_test_kit() -> None:
    for module, path in MODULES.items():
        if room_of(module) != "proxy.testing":
            assert not [name for name in imports(tree_of(path), module) if name.startswith("proxy.testing")], module


def test_no_import_leads_back() -> None:
    graph = {
        module: {name.partition(":")[0] for name in imports(tree_of(path), module)} - {"proxy", module}
        for module, path in MODULES.items()
        if not module.startswith("proxy.simulator")
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


WRITERS = {
    "frame": {"proxy.chain.frame"},
    "chain": {"proxy.chain.build"},
    "tracing": {"middleware.tracing.plugin"},
    "auth": {"middleware.auth.plugin", "proxy.ops.explaining"},  # which supposes a caller
    "queue": {"proxy.queue.scheduler", "proxy.relay.dispatch"},  # which takes the lease
    "retry": {"middleware.retry.plugin", "middleware.retry.fallback"},
    "pool": {"proxy.pool.need", "proxy.pool.blame"},
    "dispatch": {
        *(
            "proxy.relay.dispatch",
            "proxy.relay.named_backend",
            "proxy.relay.endpoint",
            "middleware.retry.hedge",
            "middleware.rate_limit.plugin",
        ),
    },
    # who answers, who says who would, who says which of two answers counts, and who estimates what nobody reported
    "body": set(),
}
"""By the sections of `Exchange`. Whoever else writes there is one too many."""


def test_every_field_of_an_exchange_has_its_writer() -> None:
    section, sections = "", {}
    for line in MODULES["proxy.kernel.exchange"].read_text().split("def __init__")[1].split("\n    @")[0].splitlines():
        if named := re.fullmatch(r" {8}# (\w+)", line):
            section = named[1]
        elif field := re.match(r" {8}self\.(\w+)[ :]", line):
            sections[field[1]] = section
    assert sections.keys() > {"status", "identity", "backend", "usage"}
    for module, path in MODULES.items():
        if room_of(module) == "proxy.testing":  # which stands in for all of them
            continue
        for name in written_to_exchanges(path) & sections.keys():
            assert module in WRITERS[sections[name]], f"{module} writes {name}, which belongs to {sections[name]}"


def written_to_exchanges(path: Path) -> set[str]:
    """The fields that a file assigns of anything called exchange."""
    targets: list[ast.expr] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign):
            targets += [part for target in node.targets for part in getattr(target, "elts", [target])]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets.append(node.target)
    return {
        target.attr
        for target in targets
        if isinstance(target, ast.Attribute) and ast.unparse(target.value).rpartition(".")[2] == "exchange"
    }


def _without_code(path: Path) -> bool:
    """Whether a file has nothing to test: a docstring, imports, a table."""
    body = ast.parse(path.read_text()).body
    return not any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body)


@pytest.mark.parametrize("path", [path for path in SOURCES if not _without_code(path)], ids=module_of)
def test_every_source_file_has_its_test(path: Path) -> None:
    relative = path.relative_to(ROOT)
    expected = ROOT / "tests" / relative.with_name(f"test_{relative.name}")
    assert expected.exists(), f"{relative} has no {expected.relative_to(ROOT)}"


def test_tests_outside_the_free_folders_mirror_a_source_file() -> None:
    for package in PACKAGES:
        for path in (ROOT / "tests" / package).rglob("test_*.py"):
            relative = path.relative_to(ROOT / "tests")
            source = ROOT / relative.with_name(relative.name.removeprefix("test_"))
            assert source.exists(), f"tests/{relative} tests no file"


def test_generated_files_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_has_grown_into_two() -> None:
    """Plugins stay below 250 lines, everything else below 400."""
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        limit = 250 if path.relative_to(ROOT).parts[0] == "middleware" else 400
        assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines"
