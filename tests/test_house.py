"""The house test: which way imports go, that every source file has its test, and that generated files are current."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "middleware", "config")

KERNEL = "proxy.kernel"
SIMULATOR = "proxy.simulator"
TOP = frozenset(
    f"proxy.{name}"
    for name in (
        "cli", "commands", "demo", "app", "announce", "reload", "frame", "chain", "plan", "plugins", "reference",
        "log_reference", "wiring", "metrics", "gauges", "ops", "telemetry",
    )
)  # fmt: skip
"""What may know everything, folders with all that is in them. The rest of the engine may import none of it."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {module_of(path): path for path in SOURCES}


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names = [
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            ]
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downward(module: str) -> None:
    used = set(imports(MODULES[module])) - {"proxy"}
    if module.startswith(KERNEL):
        assert not outside_kernel(used)
    elif module.startswith("config"):
        assert {name for name in used if not name.startswith("config")} <= {"proxy.kernel.units"}
    elif module.startswith("middleware"):
        assert not {name for name in outside_kernel(used) if not name.startswith("middleware")}
    elif module.startswith(SIMULATOR):
        assert all(name.startswith(SIMULATOR) for name in used)
    elif module.startswith("proxy.") and not on_top(module):
        assert not any(on_top(name) or name.startswith(("middleware", "config")) for name in used)


def outside_kernel(used: set[str]) -> set[str]:
    return {name for name in used if name != KERNEL and not name.startswith(f"{KERNEL}.")}


def on_top(module: str) -> bool:
    return ".".join(module.split(".")[:2]) in TOP


def test_no_import_leads_back() -> None:
    graph = {module: set(imports(path)) - {"proxy"} for module, path in MODULES.items() if SIMULATOR not in module}
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
