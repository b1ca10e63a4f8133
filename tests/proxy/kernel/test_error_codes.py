"""proxy/kernel/error_codes.py: the table and the sources say the same."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import proxy.kernel.errors
from proxy.kernel import error_codes as codes
from proxy.kernel.error_codes import BY_STATUS, TABLE, Code
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import TIMEOUTS, ProxyError, Refused, UpstreamError
from proxy.reference.errors import errors_page

ROOT = Path(__file__).parents[3]
OTHERS = "plugins of other packages"
HOME = ROOT / "proxy" / "kernel" / "error_codes.py"
ERRORS = ROOT / "proxy" / "kernel" / "errors.py"
SOURCES = {
    path: ast.parse(path.read_text())
    for package in ("proxy", "middleware", "config")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "simulator" not in path.parts and path != HOME
}
NAMES: dict[str, Code] = {
    name: Code(code) for name, code in vars(codes).items() if name.isupper() and isinstance(code, str)
}


REFUSALS = ("Refused", "NotRouted", "NoModel", "NotLetIn")


class Use(NamedTuple):
    """A place that raises an error, or names a code: the part it is in, the code, and the status if it is written."""

    part: str
    code: Code
    status: int | None


def part_of(path: Path) -> str:
    """The plugin, or the folder under ``proxy/``."""
    return path.relative_to(ROOT).with_suffix("").parts[1]


def classes() -> Iterator[tuple[str, Code]]:
    """Errors that have one code, whoever makes them, by the class's name."""
    found = list(ProxyError.__subclasses__())
    while found:
        kind = found.pop()
        found += kind.__subclasses__()
        if issubclass(kind, UpstreamError) and kind.__module__ == proxy.kernel.errors.__name__:
            yield kind.__name__, kind.code_default
    yield "Cancelled", codes.CANCELLED
    yield "ShuttingDown", codes.SHUTDOWN


CLASSES = {name: code for name, code in classes() if name != "UpstreamTimeout"}


def uses(path: Path, tree: ast.Module) -> Iterator[Use]:
    """All places in one file."""
    part = part_of(path)
    quiet = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) or (isinstance(node, ast.keyword) and node.arg == "error_code")
    ]
    asked = {id(name) for compare in quiet for name in ast.walk(compare)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "codes" and id(node) not in asked:
            yield Use(part, NAMES[node.attr], None)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "timer":  # of a class
            yield from (Use(part, TIMEOUTS[name], None) for name in TIMEOUTS if repr(name) == ast.unparse(node.value))
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        status = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if called in CLASSES:
            yield Use(part, CLASSES[called], None)
        elif called == "UpstreamTimeout" and isinstance(timer := given.get("timer"), ast.Constant):
            yield Use(part, _timeout(timer.value), None)
        elif called in ("unbegun", "_late"):
            names = [
                part.value for argument in node.args for part in ast.walk(argument) if isinstance(part, ast.Constant)
            ]
            yield from (Use(part, _timeout(name), None) for name in names if name in TIMEOUTS)
        elif (
            isinstance(status, int)
            and called in ("Refused", "NotRouted", "NoModel", "NotLetIn")
            and "code" not in given
        ):
            yield Use(part, BY_STATUS[status], status)
        elif isinstance(status, int) and isinstance(code := given.get("code"), ast.Attribute):
            yield Use(part, NAMES[code.attr], status)


def _timeout(timer: object) -> Code:
    return next(code for name, code in TIMEOUTS.items() if name == timer)


USES = [use for path, tree in SOURCES.items() if path != ERRORS for use in uses(path, tree)]


def test_every_name_is_its_code() -> None:
    assert {name: code.upper() for name, code in NAMES.items()} == {name: name for name in NAMES}
    assert set(NAMES.values()) == set(TABLE)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in TABLE)


def test_every_row_says_something() -> None:
    for code, row in TABLE.items():
        assert row.means.endswith("."), code
        assert row.remedy.endswith("."), code
        assert "|" not in row.means + row.remedy, code


def literals(tree: ast.Module) -> Iterator[str]:
    """Codes that are written as text where a code is meant, and codes that are made elsewhere than in the table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in ("Code", "codes.Code", "error_codes.Code"):
                yield ast.unparse(node)
            given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part for target in targets for part in ast.walk(target)]
            about = any(getattr(name, "attr", getattr(name, "id", "")) in ("code", "code_default") for name in names)
            given = [node.value] if about and node.value is not None else []
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            about = any(isinstance(side, ast.Attribute) and side.attr in ("code", "error_code") for side in sides)
            given = sides if about else []
        else:
            continue
        for value in given:
            yield from (
                ast.unparse(part)
                for part in ast.walk(value)
                if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str))
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_writes_a_code_as_text(path: Path) -> None:
    assert not list(literals(SOURCES[path]))


@pytest.mark.parametrize(
    "source",
    [
        'raise Refused(400, "no", code="bad_host")',
        'raise NotLetIn(403, "no", reason="x", code="no_policy")',
        'error.code = f"{timer}_timeout"',
        'error.timer, error.code = "load", "load_timeout"',
        'code = "bad_host"',
        'code_default = "upstream_failed"',
        'if error.code == "suspected_poison": pass',
        'raise Refused(400, "no", code=Code("bad_host"))',
    ],
)
def test_a_code_written_as_text_is_seen(source: str) -> None:
    assert list(literals(ast.parse(source)))


def test_every_code_of_the_table_is_raised_and_by_whom_it_says() -> None:
    raised: defaultdict[Code, set[str]] = defaultdict(set)
    for use in USES:
        raised[use.code].add(use.part)
    for code in {*BY_STATUS.values(), codes.REFUSED} - raised.keys():
        raised[code].add(OTHERS)
    assert {code: set(row.by) for code, row in TABLE.items()} == raised


def test_every_status_of_an_error_is_in_its_row() -> None:
    statuses: defaultdict[Code, set[int]] = defaultdict(set)
    for use in USES:
        if use.status is not None:
            statuses[use.code].add(use.status)
    assert not {code: found for code, found in statuses.items() if not found <= set(TABLE[code].statuses)}
    assert all(status in TABLE[code].statuses for status, code in BY_STATUS.items())


def test_every_code_is_documented() -> None:
    page = errors_page()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == sorted(TABLE)
    assert (ROOT / "docs/reference/errors.md").read_text() == page


@pytest.mark.parametrize("status", [*BY_STATUS, 418])
def test_a_refusal_without_a_code_has_that_of_its_status(status: int) -> None:
    assert Refused(status, "no").code == BY_STATUS.get(status, codes.REFUSED)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (307, codes.MOVED),
        (422, codes.INVALID_REQUEST),
        (499, codes.CANCELLED),
        (418, codes.REFUSED),
        (431, codes.REFUSED),
    ],
)
def test_a_status_with_one_plain_code_has_it(status: int, code: Code) -> None:
    assert Refused(status, "no").code == code


def test_a_plugin_may_have_a_code_of_its_own() -> None:
    error = Refused(403, "no", code=Code("acme_no_team"))
    assert (b"x-error-code", b"acme_no_team") in render("ollama", error)[1]


@pytest.mark.parametrize("name", ["a\r\nset-cookie: b", "\u2028", "\ud800", "é"])
def test_no_code_breaks_out_of_its_header(name: str) -> None:
    value = dict(render("ollama", Refused(403, "no", code=Code(name)))[1])[b"x-error-code"]
    assert value.isascii()
    assert not re.search(rb"[\r\n\x00]", value)
