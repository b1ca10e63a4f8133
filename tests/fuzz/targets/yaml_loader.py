"""Policy files: never an exception, mistakes stand where they are said to, and what is read says what the text says."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from config.load import load_bytes
from config.tree import Node
from config.yaml_reader import MAX_NODES, parse

SECRET: Final = "c4n4ry-of-the-environment"
ENV: Final = {"SECRET": SECRET, "PORT": "11434", "EMPTY": ""}
FOLDER: Final = Path(__file__).parents[1] / "corpus"
_LINE_ENDS: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # those of PyYAML, which has YAML 1.1's

TOKENS = (
    b"listen: 127.0.0.1:11435\n",
    b"backends:\n",
    b"  - url: http://127.0.0.1:11434\n",
    b"middleware:\n",
    b"  - logging\n",
    b"  - auth: {keys: keys.yaml}\n",
    b"policies:\n",
    b"pool: {health: {every: 1s}}\n",
    b"timeouts: {total: 0s}\n",
    b"${SECRET}",
    b"${PORT:-1}",
    b"${NONE}",
    b"$${",
    b"${",
    b"file:x",
    b"file:/etc/hostname",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!str ",
    b"!x ",
    b"? ",
    b": ",
    b"- ",
    b"---\n",
    b"...\n",
    b"%YAML 1.2\n",
    b"# x\n",
    b"|\n  x\n",
    b">-\n  x\n",
    b"'",
    b'"',
    b'"\\ud800"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\n",
    b"  ",
    b"\t",
    b"0x1f",
    b"1e3",
    b"~",
    b"yes",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xff",
)


def check(data: bytes) -> None:
    """Raise where the loader raises, misplaces a mistake, tells a secret, or reads something else than is written."""
    loaded = load_bytes(data, file="p.yaml", folder=FOLDER, env=ENV)
    assert (loaded.settings is None) == bool(loaded.problems), "no settings and no problems, or both"
    lines = _LINE_ENDS.split(data.decode("utf-8-sig", "replace"))
    for problem in loaded.problems:
        assert (problem.line == 0) == (problem.column == 0), f"half a place: {problem}"
        if problem.line:
            assert 1 <= problem.line <= len(lines), f"line {problem.line} of {len(lines)}: {problem}"
            length = len(lines[problem.line - 1])
            assert 1 <= problem.column <= length + 1, f"column {problem.column} of {length}: {problem}"
        assert SECRET not in str(problem), f"tells a secret: {problem}"
    assert SECRET not in repr(loaded.root.shown()), "a print shows a secret"
    root, problems = parse(data, "p.yaml")
    if root is not None:
        assert root.size <= MAX_NODES
        if not problems:
            _compare(root, data)


def _compare(root: Node, data: bytes) -> None:
    """Hold the tree against PyYAML's own, which has text for every scalar."""
    try:
        text = data.decode("utf-8-sig")  # which leaves out one byte order mark, as PyYAML does with another
        plain = yaml.load(text, Loader=yaml.BaseLoader)  # it constructs text, lists and mappings only
    except (RecursionError, yaml.composer.ComposerError):  # the latter takes no anchor that is defined anew
        return
    _same(root, plain)


def _same(node: Node, plain: Any) -> None:
    if isinstance(node.value, dict):
        assert isinstance(plain, dict), f"a mapping, and {plain!r}"
        assert list(node.value) == list(plain), f"keys {list(node.value)}, and {list(plain)}"
        for key, child in node.value.items():
            _same(child, plain[key])
    elif isinstance(node.value, list):
        assert isinstance(plain, list), f"a list, and {plain!r}"
        assert len(node.value) == len(plain)
        for child, item in zip(node.value, plain, strict=True):
            _same(child, item)
    else:
        assert node.text == plain, f"{node.text!r}, and {plain!r}"
        if isinstance(node.value, str):
            assert node.value == plain
        elif node.value is not None and not isinstance(node.value, bool):
            assert float(node.value) == _number(plain), f"{node.value!r}, and {plain!r}"


def _number(text: str) -> float:
    """Read a number as YAML 1.2's core schema has it (section 10.3.2)."""
    if re.fullmatch(r"0[xo][0-9a-fA-F]+", text):
        return float(int(text, 0))
    return float(text)
