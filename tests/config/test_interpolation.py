from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.interpolation import MAX_FILE_BYTES, resolve, substitute
from config.tree import Node
from config.yaml_reader import parse
from proxy.kernel.units import Mistake

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


def resolved(text: str, env: Mapping[str, str], folder: Path = Path()) -> tuple[Node, list[str]]:
    root, problems = parse(text.encode(), "p.yaml")
    assert root is not None
    assert not problems
    return root, [str(problem) for problem in resolve(root, "p.yaml", folder, env)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${MISSING:-d}", "d"),
        ("${MISSING:-}", ""),
        ("${MISSING:-a:b c}", "a:b c"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${A:-d}", "1"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$${A}", "$1"),
        ("end$", "end$"),
        ("$argon2id$v=19", "$argon2id$v=19"),
        ("${AGAIN}", "${A}"),
        ("${FILE}", "file:/etc/passwd"),
        ("${YAML}", "[1, &a {b: !!x c}]"),
    ],
)
def test_references_are_replaced_once(text: str, value: str) -> None:
    env = {"A": "1", "EMPTY": "", "AGAIN": "${A}", "FILE": "file:/etc/passwd", "YAML": "[1, &a {b: !!x c}]"}
    assert substitute(text, env) == value
    root, problems = resolved(f"k: '{text}'", env)
    assert (root.data(), problems) == ({"k": value}, [])


@given(st.dictionaries(NAMES, VALUES), VALUES)
def test_what_stands_for_a_text_gives_that_text(env: dict[str, str], text: str) -> None:
    assert substitute(text.replace("$", "$$"), env) == text
    for name, value in env.items():
        assert substitute(f"<${{{name}}}>", env) == f"<{value}>"


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1}", "${A-b}", "${A B}", "a ${ b"])
def test_half_a_reference_is_a_mistake(text: str) -> None:
    with pytest.raises(Mistake, match=r"expected \$\{NAME\}"):
        substitute(text, {"A": "1"})


def test_keys_are_never_resolved() -> None:
    root, problems = resolved("${A}: x", {"A": "1"})
    assert (root.data(), problems) == ({"${A}": "x"}, [])


def test_every_missing_variable_is_named_with_its_place() -> None:
    _, problems = resolved("a: ${TOKEM}\nb: [x, '${NOPE}']\n", {"TOKEN": "s3cret"})
    assert problems == [
        "p.yaml:1:4: a: the environment variable TOKEM is not set (did you mean 'TOKEN'?)",
        "p.yaml:2:8: b[1]: the environment variable NOPE is not set (set it, or write ${NOPE:-default})",
    ]


def test_an_aliased_value_is_resolved_once() -> None:
    root, problems = resolved("a: &x '$$$$'\nb: *x", {})
    assert (root.data(), problems) == ({"a": "$$", "b": "$$"}, [])


def test_files_are_read_where_a_value_begins_with_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"s3cret\n")
    (tmp_path / "two").write_bytes(b"a\r\n\r\n")
    (tmp_path / "raw").write_bytes("${A} ü".encode())
    text = f"a: file:{tmp_path}/one\nb: file:two\nc: file:${{DIR}}/raw\nd: x file:one"
    root, problems = resolved(text, {"DIR": str(tmp_path), "A": "1"}, tmp_path)
    assert (root.data(), problems) == ({"a": "s3cret", "b": "a\r\n", "c": "${A} ü", "d": "x file:one"}, [])
    assert [node.resolved for _, node in root.walk()] == [False, True, True, True, False]


def test_files_that_cannot_be_a_secret_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    text = "a: file:none\nb: file:big\nc: file:binary\nd: 'file:'\ne: file:/dev/zero\nf: 'file:${NUL}'"
    _, problems = resolved(text, {"NUL": "a\0b"}, tmp_path)
    assert problems == [
        "p.yaml:1:4: a: the file this names cannot be read: No such file or directory",
        "p.yaml:2:4: b: the file this names is larger than 65536 bytes",
        "p.yaml:3:4: c: the file this names is not UTF-8",
        "p.yaml:4:4: d: the file this names is not a regular file",
        "p.yaml:5:4: e: the file this names is not a regular file",
        "p.yaml:6:4: f: expected a path after file:",
    ]


def test_a_value_from_outside_is_marked_and_keeps_its_text() -> None:
    root, _ = resolved("a: ${A}\nb: $${A}\nc: x", {"A": "s3cret"})
    assert [(node.text, node.resolved) for _, node in root.walk()][1:] == [
        ("${A}", True),
        ("$${A}", False),
        ("x", False),
    ]
    assert root.shown() == {"a": "${A}", "b": "${A}", "c": "x"}


def test_a_variable_that_is_not_utf_8_is_a_mistake() -> None:
    _, problems = resolved("a: ${A}", {"A": "\udcff"})
    assert problems == ["p.yaml:1:4: a: the value this stands for is not UTF-8"]
