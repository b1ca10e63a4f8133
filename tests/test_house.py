"""The house test: which way imports go, that every source file has its test, and that generated files are current."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from vulture.core import Vulture

from proxy.kernel.exchange import PARTS, Exchange
from proxy.kernel.services import SERVICES

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "middleware", "config")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {module_of(path): path for path in SOURCES}

NAMES = {"Policies", "EntryName", "KnownHosts"}
"""Services that are values, not contracts: names."""

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


HIDDEN = {"__import__", "__loader__", "__builtins__", "EntryPoint", "loader", "load_module", "exec_module"}
"""Names that lead to a module without an import statement, wherever they are read from."""


def ways_around(tree: ast.AST) -> Iterator[str]:
    """What would import without an import statement."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Name) and node.id in HIDDEN:
            yield node.id
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"exec", "eval"}:
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Attribute):
            if node.attr in HIDDEN or (node.attr == "modules" and isinstance(node.value, ast.Name)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and node.value in HIDDEN:
            yield ast.unparse(node)
        for name in names:
            if (
                name.split(".")[0] in {"pkgutil", "runpy", "imp", "pydoc", "zipimport", "builtins", "tests", "bench"}
                or name.startswith("importlib.metadata.EntryPoint")
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
        if name == "proxy:__version__" or room_of(target) in rule | {room} or name in rule:
            continue
        found.append(name)
    return found + [name for name in _bound_as_packages(tree) if room != "proxy"]


def _bound_as_packages(tree: ast.AST) -> Iterator[str]:
    """What `import proxy.x` imports without a name of its own: it opens every module of `proxy` that is loaded."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                alias.name
                for alias in node.names
                if alias.name in PACKAGES or (alias.asname is None and alias.name.split(".")[0] in PACKAGES)
            )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_folder_imports_only_what_its_docstring_names(module: str) -> None:
    assert not forbidden(module, tree_of(MODULES[module]))


SIDEWAYS = [
    ("proxy.pool.pool", "from proxy.server.guarded_protocol import GuardedProtocol"),
    ("proxy.pool.pool", "if TYPE_CHECKING:\n    from proxy.server import acceptor"),
    ("proxy.kernel.exchange", "import proxy.relay.router"),
    ("proxy.kernel.exchange", "def late():\n    from config import load"),
    ("middleware.cors", "from proxy.pool.pool import Pool"),
    ("middleware.cors", "from middleware.auth.caller import caller_of"),
    ("middleware.cors", "import importlib\nimportlib.import_module('proxy.pool.pool')"),
    ("middleware.cors", "from importlib import import_module"),
    ("middleware.cors", "__import__('proxy.pool.pool')"),
    ("middleware.cors", "import sys\nsys.modules['proxy.pool.pool']"),
    ("middleware.cors", "import proxy\nproxy.pool.pool.Pool"),
    ("middleware.cors", "from proxy import pool"),
    ("middleware.cors", "import proxy.kernel.errors\nproxy.pool.pool.Pool"),
    ("middleware.cors", "import builtins\nbuiltins.__import__('proxy.pool.pool')"),
    ("middleware.cors", "find = __import__\nfind('proxy.pool.pool')"),
    ("middleware.cors", "import sys as s\ns.modules['proxy.pool.pool']"),
    (
        "middleware.cors",
        "from importlib.metadata import EntryPoint\nEntryPoint('a', 'proxy.pool.pool:Pool', 'b').load()",
    ),
    ("middleware.cors", "import importlib.metadata\nimportlib.metadata.EntryPoint('a', 'proxy.pool.pool', 'b').load()"),
    ("middleware.cors", "import importlib.util\nimportlib.util.find_spec('proxy.pool.pool').loader.load_module()"),
    ("middleware.cors", "from importlib.util import find_spec\nfind_spec('proxy.pool.pool').loader"),
    ("middleware.cors", "__loader__.load_module('proxy.pool.pool')"),
    ("middleware.cors", "from tests.support import options"),
    ("middleware.cors", "import tests.support.options"),
    ("proxy.simulator.simulated_ollama", "from proxy.kernel import asgi"),
    ("config.load", "from proxy.chain.plan import plan"),
    ("proxy.chain.build", "from middleware.cors import Cors"),
]


@pytest.mark.parametrize(("module", "source"), SIDEWAYS)
def test_a_sideways_import_is_seen(module: str, source: str) -> None:
    assert module in MODULES
    assert forbidden(module, ast.parse(source))
    for named in re.findall(r"(?:from|import) ((?:proxy|middleware|config)[\w.]*)", source):
        assert named in MODULES, named
    for package, name in re.findall(r"from (proxy\.\w+|config) import (\w+)", source):
        assert f"{package}.{name}" in MODULES, name
    for named in re.findall(r"'((?:proxy|middleware|config)\.[\w.]+)", source):
        assert named in MODULES, named


def test_tests_start_processes_in_one_way() -> None:
    """`start_process` gives them the signals that a test sends."""
    for path in (ROOT / "tests").rglob("*.py"):
        if path not in (ROOT / "tests" / "support" / "process.py", Path(__file__)):
            assert "create_subprocess_" not in path.read_text("utf-8"), path


def test_nothing_that_serves_imports_the_test_kit() -> None:
    for module, path in MODULES.items():
        if room_of(module) != STAND_IN:
            assert not [name for name in imports(tree_of(path), module) if name.startswith(STAND_IN)], module


def test_no_import_leads_back() -> None:
    graph = {
        module: {name.partition(":")[0] for name in imports(tree_of(path), module)} - {"proxy", module}
        for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


OWNERS = {
    "FramePart": {"proxy.chain.frame", "proxy.chain.heartbeats"},  # which counts what it sends
    "ChainPart": {"proxy.chain.build"},
    "TracingPart": {"middleware.tracing"},
    "AuthPart": {"middleware.auth", "proxy.ops.explaining"},  # which makes up an exchange, and who calls
    "AccessPart": {"middleware.access"},
    "DeferPart": {"middleware.defer"},
    "ParametersPart": {"middleware.parameters"},
    "QueuePart": {"proxy.queue"},
    "RetryPart": {"middleware.retry"},
    "StreamingPart": {"middleware.streaming"},
    "PoolPart": {"proxy.pool", "proxy.kernel.retrying"},
    "BlamePart": {"proxy.pool.blame"},
    "RelayPart": {"proxy.relay", "proxy.kernel.retrying"},
}
"""Who may import a part of an exchange, and so write its fields: a module, or a folder."""
CALLERS = {
    "reroute": {"middleware.auth", "proxy.kernel.request_body"},
    "finishers": {"proxy.chain.frame", "proxy.ops.explaining"},
    "release_body": {"proxy.relay.answer_stream", "proxy.kernel.retrying"},
    "take_lease": {"proxy.relay.dispatch", "proxy.queue"},
    "count_usage": {"middleware.rate_limit"},
    "second_attempt": {"middleware.retry"},
    "forget_tried": {"middleware.retry"},
    "account_for": {"middleware.retry", "proxy.kernel.retrying"},
    "take_answer": {"middleware.retry"},
    "take_answer_of": {"proxy.kernel.retrying"},
}
"""Who may call what changes an exchange beyond its own part."""
EXCHANGE = {"proxy.kernel.exchange", "proxy.kernel.exchange_parts"}
STAND_IN = "proxy.testing"
"""The folder that stands in for every writer, and nothing that serves imports."""


def intrusions(module: str, tree: ast.AST) -> list[str]:
    """What a file does to an exchange that belongs to another one, whatever the exchange is called there."""
    if module in EXCHANGE or room_of(module) == STAND_IN:
        return []
    parts = ((name, name.partition(":")) for name in imports(tree, module))
    found = [
        name
        for name, (source, _, part) in parts
        if name == "proxy.kernel.exchange:PARTS"
        or (source == "proxy.kernel.exchange_parts" and not _is_within(module, OWNERS.get(part, set())))
        or (source == "proxy.kernel.retrying" and not _is_within(module, CALLERS.get(part, set())))
    ]
    known = _exchanges(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            mine = ast.unparse(node.value) in ("self", "cls")
            if (
                (node.attr in CALLERS and not mine and not _is_within(module, CALLERS[node.attr]))
                or (node.attr in Exchange.__slots__ and not mine and ast.unparse(node) not in COPIES.get(module, ()))
                or node.attr == "PARTS"
                or (node.attr in OWNERS and not _is_within(module, OWNERS[node.attr]))
            ):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Name) and node.id in OWNERS and not _is_within(module, OWNERS[node.id]):
            found.append(node.id)
        elif isinstance(node, ast.ImportFrom):
            ours = (node.module or "").startswith("proxy.kernel.exchange")
            found += [f"{node.module}:*" for alias in node.names if ours and alias.name == "*"]
            found += [
                alias.name
                for alias in node.names
                if alias.name in OWNERS and not _is_within(module, OWNERS[alias.name])
            ]
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func).rpartition(".")[2] in SETTERS:
                found += [ast.unparse(node) for target in node.args[:1] if _is_exchange(target, known)]
            texts = (text.value for text in node.args if isinstance(text, ast.Constant) and isinstance(text.value, str))
            found += [text for text in texts if text.partition(".")[0] in {*Exchange.__slots__, *OWNERS}]
    return found


COPIES = {"proxy.kernel.request_body": {"second._scope"}}
"""What a class writes in a copy of its own object, under a name that an exchange has too."""
SETTERS = {"setattr", "delattr", "__setattr__", "__delattr__"}


def _is_within(module: str, owners: set[str]) -> bool:
    return any(module == owner or module.startswith(f"{owner}.") for owner in owners)


def _is_exchange(value: ast.expr, known: set[str]) -> bool:
    """Whether an expression is an exchange, as far as its name, an annotation or an assignment tells."""
    text = ast.unparse(value)
    return text.rpartition(".")[2] == "exchange" or text.startswith("Exchange.of(") or text in known


def _exchanges(tree: ast.AST) -> set[str]:
    """The names that are annotated as an exchange anywhere in a file, or assigned one."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None and _says_exchange(node.annotation):
            names.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and _says_exchange(node.annotation):
            names.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign) and (
            ast.unparse(node.value).startswith(("Exchange.of(", "Exchange("))
            or ast.unparse(node.value).rpartition(".")[2] == "exchange"
        ):
            names |= {ast.unparse(target) for target in node.targets}
    return names


def _says_exchange(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).strip("'\"").removesuffix(" | None") == "Exchange"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_an_exchange_is_changed_by_whom_its_part_belongs_to(module: str) -> None:
    assert not intrusions(module, tree_of(MODULES[module]))


def test_every_part_of_an_exchange_has_its_owner() -> None:
    assert {part.__name__ for part in PARTS} == OWNERS.keys()
    for part in PARTS:
        written_by = (part.__doc__ or "").partition("\n")[0]
        named = set(re.findall(r"`(proxy\.[\w.]+)`", written_by))
        named |= {f"middleware.{plugin}" for plugin in re.findall(r"plugin `(\w+)`", written_by)}
        assert named, part
        for writer in named:
            assert writer in MODULES, writer
            assert _is_within(writer, OWNERS[part.__name__]), writer
    for owner in set.union(*OWNERS.values(), *CALLERS.values()):
        assert owner in MODULES, owner


INTRUDERS = [
    "from proxy.kernel.exchange_parts import FramePart",
    "from proxy.kernel import exchange_parts",
    "import proxy.kernel.exchange_parts as parts",
    "from proxy.kernel.exchange import PARTS",
    "Exchange.of(scope)._frame.status = 200",
    "ex = Exchange.of(scope)\nex._frame.status = 200",
    "def note(one: Exchange) -> None:\n    one._frame.status = 200",
    "def note(one: 'Exchange | None') -> None:\n    setattr(one, '_status', 200)",
    "exchange = Exchange.of(scope)\nother = exchange\nobject.__setattr__(other, '_frame', None)",
    "self.exchange._relay.tried = ()",
    "Exchange.of(scope).reroute('/x')",
    "anything.release_body()",
    "leave = anything.take_lease",
    "from proxy.kernel import exchange as e\nx.part(e.FramePart).status = 1",
    "import proxy.kernel.exchange as e\ne.PARTS",
    "from proxy.kernel.exchange import *",
    "from proxy.kernel.exchange import FramePart",
    "getattr(anything, '_frame').status = 200",
    "getattr(e, 'FramePart')",
    "attrgetter('_frame.status')",
    "def note(one):\n    one._body.put(b'')",
    "one = scope['ollama_proxy.exchange']\none._frame.status = 1",
    "def note(one):\n    one._frame.status = 1",
    "from proxy.kernel.retrying import forget_tried",
    "from proxy.kernel import retrying",
]


@pytest.mark.parametrize("source", INTRUDERS)
def test_an_intrusion_is_seen(source: str) -> None:
    assert intrusions("middleware.cors", ast.parse(source))


@cache
def borrowed(module: str) -> frozenset[str]:
    """The names of ours that a module imports itself."""
    tree = tree_of(MODULES[module])
    found = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return frozenset(
        alias.asname or alias.name
        for node in found
        for alias in node.names
        if (node.module or "").split(".")[0] in PACKAGES
    )


def secondhand(tree: ast.AST, module: str) -> list[str]:
    """What a file imports of ours from another file than the one that defines it; tables in `__init__` aside."""
    found = [name.partition(":") for name in imports(tree, module)]
    return [
        f"{source}:{name}"
        for source, _, name in found
        if name and source in MODULES and MODULES[source].name != "__init__.py" and name in borrowed(source)
    ]


EVERYWHERE = sorted(path for folder in (*PACKAGES, "tests", "bench") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", EVERYWHERE, ids=module_of)
def test_a_name_is_imported_from_where_it_is_defined(path: Path) -> None:
    assert not secondhand(tree_of(path), module_of(path))


def test_a_name_at_second_hand_is_seen() -> None:
    assert secondhand(ast.parse("from proxy.kernel.exchange import Attempt"), "middleware.cors")
    assert not secondhand(ast.parse("from proxy.kernel.attempts import Attempt"), "middleware.cors")


def _has_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function does anything: contracts have a docstring and nothing else."""
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in function.body)


def _without_code(path: Path) -> bool:
    """Whether a file has nothing to test: a docstring, imports, a table, a contract, fields."""
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return not any(_has_body(function) for function in functions)


def _is_contract(node: ast.ClassDef) -> bool:
    """Whether a class is a Protocol, or has abstract methods."""
    abstract = any("abstractmethod" in ast.unparse(name) for part in ast.walk(node) for name in _decorators(part))
    return abstract or any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def _decorators(node: ast.AST) -> list[ast.expr]:
    return node.decorator_list if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []


def test_the_kernel_implements_no_service() -> None:
    """A contract has no bodies, and no class of the kernel implements one."""
    kernel = [
        node for module, path in MODULES.items() if module.startswith("proxy.kernel") for node in tree_of(path).body
    ]
    classes = {node.name: node for node in kernel if isinstance(node, ast.ClassDef)}
    contracts = {name for name, node in classes.items() if _is_contract(node)}
    assert contracts >= {service.__name__ for service in SERVICES} - NAMES
    for name, node in classes.items():
        functions = [part for part in ast.walk(node) if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
        if name in contracts:
            assert not any(map(_has_body, functions)), f"the contract {name} has code"
        bases = {ast.unparse(base) for base in node.bases}
        assert not bases & contracts, f"{name} implements a contract within the kernel"


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
    """Plugins stay below 250 lines, everything else below 400, apart from the one table of error codes."""
    for path in SOURCES:
        if path == ROOT / "proxy" / "kernel" / "error_codes.py":
            continue
        lines = len(path.read_text().splitlines())
        limit = 250 if path.relative_to(ROOT).parts[0] == "middleware" else 400
        assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines"


SCRIPTS = [path for path in (ROOT / "scripts").iterdir() if path.read_bytes().startswith(b"#!/usr/bin/env python3")]
SIZED = [*SOURCES, *sorted(SCRIPTS), *sorted((ROOT / "bench").rglob("*.py"))]


@pytest.mark.parametrize("path", SIZED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_or_class_has_grown_into_two(path: Path) -> None:
    """A function has at most 60 lines, a class at most 25 methods."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            assert len(methods) <= 25, f"{node.name} has {len(methods)} methods"


def test_what_nothing_uses_is_named_with_its_reason() -> None:
    names = ROOT / "scripts" / "unused_names.py"
    entries = [line for line in names.read_text().partition('\n"""\n')[2].splitlines() if line and line[0] != "#"]
    reasons = {name: reason for name, _, reason in (line.partition("  # ") for line in entries)}
    assert all(reasons.values()), "a name without a reason"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["vulture"]
    found = Vulture()
    found.scavenge([str(ROOT / path) for path in settings["paths"] if ROOT / path != names])
    unused = {item.name for item in found.get_unused_code(min_confidence=settings["min_confidence"])}
    assert sorted(reasons) == sorted(unused)


DESIGN = (ROOT / "docs" / "design.md").read_text("utf-8")


def test_the_design_repeats_the_rule_of_each_folder() -> None:
    table = DESIGN.partition("| folder | may import |")[2].partition("\n\n")[0]
    said = dict(re.findall(r"^\| `([\w/]+)/` \| (.+) \|$", table, re.MULTILINE))
    rules = {
        room.replace(".", "/"): may_import(room) or {"nothing"}
        for room in {room_of(module) for module in MODULES}
        if not room.startswith("middleware.")
    }
    assert {folder: set(names.replace("`", "").split(", ")) for folder, names in said.items()} == rules


def test_the_functions_of_the_hot_path_are_where_the_design_says() -> None:
    steps = re.findall(r"^\| \d \| `([\w/.]+): (\w+)` \|", DESIGN, re.MULTILINE)
    assert len(steps) == 9
    for path, name in steps:
        names = {node.name for node in ast.walk(tree_of(ROOT / path)) if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{path} has no {name}"
