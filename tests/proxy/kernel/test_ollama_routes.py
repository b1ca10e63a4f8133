"""proxy/kernel/ollama_routes.py: it is the only place where a route is known by its path."""

import ast
from collections.abc import Iterator
from pathlib import Path

from proxy.kernel.ollama_routes import OLLAMA

ROOT = Path(__file__).parents[3]
TABLE = "proxy/kernel/ollama_routes.py"
ASKERS = {
    "proxy/kernel/routes.py": "says how errors are said where there is no route",
    "proxy/pool/probes.py": "asks a host how it is",
    "proxy/pool/backend_api.py": "asks a host what it has",
    "proxy/relay/context_models.py": "makes a model on a host",
    "proxy/ops/actions.py": "unloads a model, as an operator wants it",
    "proxy/commands/doctor.py": "asks a host how it is",
    "proxy/testing/exchanges.py": "makes a request for a test",
}
"""Files that name a route for another reason than to decide about a request by its path."""


def named(path: Path) -> Iterator[str]:
    """The routes that stand as text of their own in a file's code, those in docstrings left out."""
    known = {route.path for route in OLLAMA} - {"/"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant):
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if text in known:
                yield str(text)


def test_no_other_file_knows_a_route_by_its_path() -> None:
    found = {}
    for package in ("proxy", "middleware", "config"):
        for path in (ROOT / package).rglob("*.py"):
            relative = path.relative_to(ROOT).as_posix()
            if relative != TABLE and not relative.startswith("proxy/simulator/") and (names := set(named(path))):
                found[relative] = names
    assert found.keys() == ASKERS.keys(), found


def test_no_file_compares_the_path_of_a_route() -> None:
    """Nor the beginning or the end of one."""
    odd = []
    for package in ("proxy", "middleware", "config"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                compared = isinstance(node, ast.Compare) and any(
                    ast.unparse(part).endswith("route.path") for part in (node.left, *node.comparators)
                )
                asked = isinstance(node, ast.Call) and ".route.path." in f".{ast.unparse(node.func)}"
                if (compared or asked) and "simulator" not in path.parts:
                    odd.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    allowed = ("proxy/kernel/routes.py", "proxy/ops/openapi_ollama.py")
    # The first looks routes up; the second writes down what stands in braces.
    assert [line for line in odd if not line.startswith(allowed)] == []
