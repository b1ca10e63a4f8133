from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from config.interpolation import resolve
from config.model_validation import Checker, mask
from config.tree import Node
from config.yaml_reader import parse
from proxy.kernel.units import Context, Duration, Mistake, Secret

ENV = {"WORD": "canary-s3cret", "NUMBER": "4", "BIG": "99", "TRUE": "true", "EMPTY": "", "ODD": "4x"}


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


class Nested(BaseModel):
    password: Secret = Secret("")
    depth: int = 0


class Options(BaseModel):
    word: str = ""
    number: Annotated[int, Field(ge=1, le=10)] = 1
    ratio: float = 1.0
    flag: bool = False
    wait: Duration = 1.0
    mode: Literal["json", "console"] = "json"
    color: Color = Color.RED
    words: tuple[str, ...] = ()
    several: Annotated[list[str], Field(min_length=1)] = ["x"]
    point: Point | None = None
    nested: Nested | None = None
    either: int | list[int] = 0
    secret: Secret = Secret("")
    echo: Any = None
    short: Annotated[str, Field(max_length=3)] = ""
    lower: Annotated[str, Field(pattern="^[a-z]*$")] = ""

    @field_validator("echo")
    @classmethod
    def _echo(cls, value: object) -> object:
        if value == "mistake":
            raise Mistake("cannot be that", "write another")
        raise ValueError(f"a foreign validator repeats {value}")


def check(text: str) -> tuple[Options | None, list[str]]:
    root, problems = parse(text.encode(), "p.yaml")
    assert root is not None
    assert not problems
    assert not resolve(root, "p.yaml", Path(), ENV)
    options, found = Checker("p.yaml", Context()).check(Options, root)
    return options, [str(problem).removeprefix("p.yaml:1:") for problem in found]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("word: 5", "7: word: expected text, got 5 (put it in quotes)"),
        ("word: true", "7: word: expected text, got true (put it in quotes)"),
        ("word:", "6: word: expected text, got nothing"),
        ("word: [a]", "7: word: expected text, got a list"),
        ("number: '4'", "9: number: expected a whole number, got '4' (leave out the quotes)"),
        ("number: many", "9: number: expected a whole number, got 'many'"),
        ("number: true", "9: number: expected a whole number, got true"),
        ("number: 4.5", "9: number: expected a whole number, got 4.5"),
        ("number: 0", "9: number: expected at least 1, got 0"),
        ("number: 11", "9: number: expected at most 10, got 11"),
        ("number: 0x0B", "9: number: expected at most 10, got 0x0B"),
        ("number: 007", "9: number: expected a whole number, got '007'"),
        ("ratio: '1'", "8: ratio: expected a number, got '1' (leave out the quotes)"),
        ("flag: yes", "7: flag: expected true or false, got 'yes' (write true)"),
        ("flag: Off", "7: flag: expected true or false, got 'Off' (write false)"),
        ("flag: 1", "7: flag: expected true or false, got 1"),
        ("flag: 'true'", "7: flag: expected true or false, got 'true' (leave out the quotes)"),
        ("wait: 30", "7: wait: expected a duration like 250ms, 30s, 10m, 1h or 7d, got 30 (write 30s for seconds)"),
        ("mode: jsno", "7: mode: expected 'json' or 'console', got 'jsno' (did you mean 'json'?)"),
        ("mode: 5", "7: mode: expected 'json' or 'console', got 5"),
        ("color: green", "8: color: expected 'red' or 'blue', got 'green'"),
        ("words: a", "8: words: expected a list, got 'a'"),
        ("words: [a, 5]", "12: words[1]: expected text, got 5 (put it in quotes)"),
        ("several: []", "10: several: expected at least 1, got a list"),
        ("several: [5]", "11: several[0]: expected text, got 5 (put it in quotes)"),
        ("point: {y: 1}", "8: point.x: is required"),
        ("point: {x: 1, z: 1}", "15: point.z: unknown key 'z' (known here: x, y)"),
        ("point: 5", "8: point: expected a mapping, got 5"),
        ("nested: {dept: 1}", "10: nested.dept: unknown key 'dept' (did you mean 'depth'?)"),
        ("either: a", "9: either: expected a whole number, or a list, got 'a'"),
        ("either: [a]", "9: either: expected a whole number, got a list"),
        ("short: abcd", "8: short: expected text of at most 3 characters, got 'abcd'"),
        ("lower: ABC", "8: lower: expected text that matches ^[a-z]*$, got 'ABC'"),
        ("echo: mistake", "7: echo: cannot be that (write another)"),
        ("echo: x", "7: echo: a foreign validator repeats x"),
        (f"number: {'x' * 99}", f"9: number: expected a whole number, got '{'x' * 60}…'"),
        ("wrod: x", "1: wrod: unknown key 'wrod' (did you mean 'word'?)"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_file(text: str, problem: str) -> None:
    options, problems = check(text)
    assert options is None
    assert problems[0] == problem


def test_every_mistake_is_reported() -> None:
    _, problems = check("{word: 5, number: x, flag: on, nope: 1, point: {y: z}}")
    assert [problem.partition(": ")[2] for problem in problems] == [
        "word: expected text, got 5 (put it in quotes)",
        "number: expected a whole number, got 'x'",
        "flag: expected true or false, got 'on' (write true)",
        "point.x: is required",
        "point.y: expected a whole number, got 'z'",
        "nope: unknown key 'nope'",
    ]


def test_values_get_their_types() -> None:
    options, problems = check(
        "{word: x, number: 4, ratio: 1, flag: true, wait: 1m, mode: console, color: blue, words: [a],"
        " point: {x: 1}, nested: {depth: 2}, either: [1]}"
    )
    assert problems == []
    assert options is not None
    assert (options.ratio, options.wait, options.color, options.words) == (1.0, 60.0, Color.BLUE, ("a",))
    assert (options.point, options.either) == (Point(1), [1])


def test_text_from_outside_may_stand_for_a_number_or_a_truth_value() -> None:
    options, problems = check("{number: '${NUMBER}', ratio: '${NUMBER}', flag: '${TRUE}', word: '${NUMBER}'}")
    assert problems == []
    assert options is not None
    assert (options.number, options.ratio, options.flag, options.word) == (4, 4.0, True, "4")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("number: ${WORD}", "9: number: expected a whole number, got '${WORD}'"),
        ("number: ${ODD}", "9: number: expected a whole number, got '${ODD}'"),
        ("number: ${BIG}", "9: number: expected at most 10, got '${BIG}'"),
        ("number: ${EMPTY}", "9: number: expected a whole number, got '${EMPTY}'"),
        ("flag: ${WORD}", "7: flag: expected true or false, got '${WORD}'"),
        ("wait: ${NUMBER}", "7: wait: expected a duration like 250ms, 30s, 10m, 1h or 7d, got '${NUMBER}'"),
        ("wait: ${WORD}", "7: wait: expected a duration like 250ms, 30s, 10m, 1h or 7d, got '${WORD}'"),
        ("mode: ${WORD}", "7: mode: expected 'json' or 'console', got '${WORD}'"),
        ("echo: a${WORD}b", "7: echo: a foreign validator repeats a${WORD}b"),
        ("echo: {x: '${WORD}'}", "7: echo: a foreign validator repeats {'x': '${WORD}'}"),
        ("short: ${WORD}", "8: short: expected text of at most 3 characters, got '${WORD}'"),
        ("words: ${WORD}", "8: words: expected a list, got '${WORD}'"),
        ("point: ${WORD}", "8: point: expected a mapping, got '${WORD}'"),
        ("either: ${WORD}", "9: either: expected a whole number, or a list, got '${WORD}'"),
    ],
)
def test_no_message_repeats_a_value_from_outside(text: str, problem: str) -> None:
    _, problems = check(text)
    assert problems[0] == problem
    assert "canary" not in " ".join(problems)


def test_no_message_repeats_what_stands_where_a_secret_should() -> None:
    _, problems = check("{secret: 987654, nested: {password: 987654}}")
    assert problems == [
        "37: nested.password: expected text (put it in quotes)",
        "10: secret: expected text (put it in quotes)",
    ]
    _, problems = check("nested: canary-s3cret")
    assert problems == ["9: nested: expected a mapping"]


def test_a_key_that_a_model_would_ignore_is_refused() -> None:
    assert check("nested: {depth: 1, lost: 2}")[1] == [
        "20: nested.lost: unknown key 'lost' (known here: depth, password)"
    ]


def test_paths_and_places_of_merged_parts_are_those_of_the_file() -> None:
    root, _ = parse(b"base: {number: 4}\nover:\n  number: 11\n  wrod: x", "p.yaml")
    assert root is not None
    _, found = Checker("p.yaml", Context()).check(Options, root.at(("over",)), lambda path: ("over", *path))
    assert [str(problem) for problem in found] == [
        "p.yaml:3:11: over.number: expected at most 10, got 11",
        "p.yaml:4:3: over.wrod: unknown key 'wrod' (did you mean 'word'?)",
    ]


def test_masking() -> None:
    node = Node.of({"a": "x", "b": ""})
    for name in ("a", "b"):
        child = node.at((name,))
        child.text, child.resolved = f"${{{name.upper()}}}", True
    node.at(("a",)).value = "canary"
    assert mask("it was canary, canary", node) == "it was ${A}, ${A}"


def test_what_was_expected_is_said_in_one_order_whichever_equal_union_was_made_first() -> None:
    class One(BaseModel):
        value: Duration | bool | Literal["off"] | list[int]

    class Other(BaseModel):
        value: list[int] | Literal["off"] | bool | Duration

    root, _ = parse(b"value: {}", "p.yaml")
    assert root is not None
    one, other = (Checker("p.yaml", Context()).check(model, root)[1] for model in (One, Other))
    assert one == other
    assert [problem.message for problem in one] == [
        "expected true or false, or a duration like 250ms, 30s, 10m, 1h or 7d, or a list, or 'off', got a mapping"
    ]
