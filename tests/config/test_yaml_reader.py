import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.tree import Data
from config.yaml_reader import MAX_BYTES, parse


def data(text: str) -> Data:
    root, problems = parse(text.encode(), "p.yaml")
    assert not problems
    assert root is not None
    return root.data()


def complaints(source: bytes | str) -> list[str]:
    raw = source.encode() if isinstance(source, str) else source
    return [str(problem) for problem in parse(raw, "p.yaml")[1]]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("n", "n"),
        ("null", None),
        ("~", None),
        ("", None),
        ("nil", "nil"),
        ("10", 10),
        ("-3", -3),
        ("010", "010"),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        ("190:20", "190:20"),
        ("2026-01-31", "2026-01-31"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("00.5", "00.5"),
        ("1.2.3", "1.2.3"),
        (".inf", ".inf"),
        ("'10'", "10"),
        ('"true"', "true"),
        ("|\n  true\n", "true\n"),
        ("9" * 60, "9" * 60),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, value: Data) -> None:
    assert data(f"a: {written}") == {"a": value}


def test_keys_are_text() -> None:
    assert data("1: a\ntrue: b\noff: c\n~: d") == {"1": "a", "true": "b", "off": "c", "~": "d"}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    root, problems = parse(b"\xef\xbb\xbfa: 1", "p.yaml")
    assert (root is not None and root.data(), problems) == ({"a": 1}, [])


def test_aliases_stand_for_what_they_name() -> None:
    assert data("a: &x {b: [1, 2]}\nc: *x") == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


def test_every_value_knows_where_it_stands() -> None:
    root, _ = parse(b"a:\n  - b: 1\n    c: [x, 'y']\n", "p.yaml")
    assert root is not None
    places = {path: (node.line, node.column) for path, node in root.walk()}
    assert places == {
        (): (1, 1),
        ("a",): (2, 3),
        ("a", 0): (2, 5),
        ("a", 0, "b"): (2, 8),
        ("a", 0, "c"): (3, 8),
        ("a", 0, "c", 0): (3, 9),
        ("a", 0, "c", 1): (3, 12),
    }
    assert root.at(("a", 0)).keys == {"b": (2, 5), "c": (3, 5)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b"", ["p.yaml: the file is empty"]),
        (b"# nothing\n", ["p.yaml: the file is empty"]),
        (b"- a\n", ["p.yaml:1:1: expected a mapping of settings (write listen: 127.0.0.1:11435)"]),
        (b"text", ["p.yaml:1:1: expected a mapping of settings (write listen: 127.0.0.1:11435)"]),
        (b"a: 1\n---\nb: 2\n", ["p.yaml:2:1: a second document begins here (a policy file is one document)"]),
        ("ä: 1\nb: \xe9".encode("latin-1"), ["p.yaml:1:1: the file is not UTF-8 (save it as UTF-8)"]),
        (b"\xef\xbb\xbfa: \xff", ["p.yaml:1:4: the file is not UTF-8 (save it as UTF-8)"]),
        (b"a: 1\nb: \xff", ["p.yaml:2:4: the file is not UTF-8 (save it as UTF-8)"]),
        (b"a: 1\r\nb: 2\rc: \xff", ["p.yaml:3:4: the file is not UTF-8 (save it as UTF-8)"]),
        ("a: '\x85\u2028x\x07'".encode(), ["p.yaml:3:2: character U+0007 is not allowed"]),
        ("a: 1".encode("utf-16"), ["p.yaml: the file is UTF-16 (save it as UTF-8)"]),
        (b"a: 1\nb: \x07", ["p.yaml:2:4: character U+0007 is not allowed"]),
        (b'a: "\\ud800"', ["p.yaml:1:4: a: half of a surrogate pair is no character"]),
        (b"a: 1\nb:\n\tc: 2", [("p.yaml:3:1: not valid YAML: while scanning for the next token, found character "
                               "'\\t' that cannot start any token (indent with spaces, not with tabs)")]),
        (b"a: {b: ${C}}", [("p.yaml:1:9: not valid YAML: while parsing a flow mapping, expected ',' or '}', but got "
                           "'{' (put ${\u2026} in quotes inside braces and brackets)")]),
        (b"a: [1", [("p.yaml:1:6: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got "
                    "'<stream end>'")]),
        (b"a: 1\na: 2\nb: {c: 1, c: 2}", [
            "p.yaml:2:1: a: duplicate key; the first stands at 1:1",
            "p.yaml:3:11: b.c: duplicate key; the first stands at 3:5",
        ]),
        (b"? [a]\n: 1\n? {b: c}\n: 2", [
            "p.yaml:1:3: a key must be plain text", "p.yaml:3:3: a key must be plain text"
        ]),
        (b"a: !!python/name:os x", [
            "p.yaml:1:4: a: tags such as tag:yaml.org,2002:python/name:os are not allowed (quote it if it is text)"
        ]),
        (b"a: !!str 1\nb: !x {c: 1}\nd: ! e", [
            "p.yaml:1:4: a: tags such as tag:yaml.org,2002:str are not allowed (quote it if it is text)",
            "p.yaml:2:4: b: tags such as !x are not allowed (quote it if it is text)",
            "p.yaml:3:4: d: tags such as ! are not allowed (quote it if it is text)",
        ]),
        (b"a: &x {b: 1}\nc:\n  <<: *x\n  d: 1", [
            "p.yaml:3:3: c: merge keys are not part of YAML 1.2 (write the keys out)"
        ]),
        (b"a: *x", ["p.yaml:1:4: a: there is no anchor &x before this alias"]),
        (b"a: &x [*x]", ["p.yaml:1:8: a[0]: there is no anchor &x before this alias"]),
        (b"&k a: 1", ["p.yaml:1:1: a key has no anchor"]),
        (b"a: " + b"[" * 99, ["p.yaml:1:44: nested more than 40 deep"]),
        (b"a: " + b"x" * MAX_BYTES, ["p.yaml: the file is larger than 1048576 bytes"]),
        (b"a: [" + b"1," * 60_000 + b"]", ["p.yaml:1:100001: the file holds more than 50000 values"]),
    ],
)  # fmt: skip
def test_what_reads_differently_from_how_it_looks_is_refused(source: bytes, expected: list[str]) -> None:
    assert complaints(source) == expected


def test_aliases_cannot_multiply_beyond_reason() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 20)]
    assert complaints("\n".join(lines)) == [
        "p.yaml: the file stands for more than 50000 values once its aliases are replaced"
    ]
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60)]
    assert complaints("\n".join(lines)) == ["p.yaml:39:12: nested more than 40 deep by aliases"]


@given(st.binary(max_size=200) | st.text(alphabet="abc:-[]{},&*!|>'\"%@`?<= \n\t${}0~#", max_size=80).map(str.encode))
def test_no_bytes_make_it_raise(source: bytes) -> None:
    root, problems = parse(source, "p.yaml")
    assert root is not None or problems
