from collections.abc import Callable
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from config.addresses import Address
from config.json_schema import at, describe, names, secret, unread
from config.problems import Path
from config.tree import Node
from proxy.kernel.units import Duration, Percent, Rate, Secret, Size


class Inner(BaseModel):
    token: Secret = Secret("")
    word: str = ""


class Lax(BaseModel):
    known: int = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    wait: Duration = 90.0
    size: Annotated[Size, Field(ge=1)] = 2**16
    share: Percent | None = 0.2
    rate: Rate = Rate.parse("60/minute")
    store: Secret = Secret("memory")
    listen: tuple[Address, ...] = (Address("127.0.0.1", 1),)
    inner: Inner = Inner()
    many: list[Inner] = []
    by_name: dict[str, Inner] = {}
    either: Literal["off"] | Inner = "off"
    pair: tuple[int, Inner] | None = None
    lax: Lax | None = None
    laxes: list[Lax] = []
    open: Open | None = None
    hook: Callable[[], None] | None = None


SCHEMA = describe(Outer)


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("wait", "90s"),
        ("size", "64KiB"),
        ("share", "20%"),
        ("rate", "60/minute"),
        ("store", "memory"),
        ("listen", ["127.0.0.1:1"]),
        ("inner", None),
        ("many", []),
    ],
)
def test_defaults_are_written_as_in_the_file(field: str, default: object) -> None:
    assert SCHEMA["properties"][field].get("default") == default


def test_a_type_without_a_schema_is_anything() -> None:
    assert SCHEMA["properties"]["hook"]["anyOf"] == [{}, {"type": "null"}]


def test_several_schemas_fit_into_one() -> None:
    prefixed = describe(Outer, "retry.")
    assert set(prefixed["$defs"]) == {"retry.Inner", "retry.Lax", "retry.Open"}
    assert prefixed["properties"]["inner"] == {"$ref": "#/$defs/retry.Inner"}


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (("inner",), {"token", "word"}),
        (("many", 3), {"token", "word"}),
        (("by_name", "x"), {"token", "word"}),
        (("either",), {"token", "word"}),
        (("pair", 1), {"token", "word"}),
        (("pair", 0), set()),
        (("wait",), set()),
        (("nothing", "here"), set()),
    ],
)
def test_names_are_found_through_lists_mappings_and_alternatives(path: Path, known: set[str]) -> None:
    assert names(SCHEMA, path) == known


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        (("store",), True),
        (("inner", "token"), True),
        (("inner",), True),
        (("by_name",), True),
        (("many",), True),
        (("either",), True),
        (("inner", "word"), False),
        (("wait",), False),
        (("nothing",), False),
    ],
)
def test_where_a_secret_may_stand(path: Path, hidden: bool) -> None:
    assert secret(SCHEMA, path) is hidden


def test_a_recursive_model_does_not_recurse_for_ever() -> None:
    class Tree(BaseModel):
        below: list["Tree"] = []

    assert secret(describe(Tree), ()) is False


def test_what_a_model_ignores_is_found() -> None:
    node = Node.of({"lax": {"known": 1, "lost": 2}, "laxes": [{"gone": {"x": 1}}], "open": {"kept": 1}, "inner": {}})
    assert list(unread(SCHEMA, node)) == [("lax", "lost"), ("laxes", 0, "gone")]


def test_the_schema_at_the_top_is_itself() -> None:
    assert at(SCHEMA, ()) == [SCHEMA]


def test_alternatives_are_described_in_one_order_whichever_equal_union_was_made_first() -> None:
    """`typing` gives for ``Optional[bool | str]`` what it gave for ``Optional[str | bool]``, if that was made first."""

    class One(BaseModel):
        value: Duration | bool | Literal["off"] | dict[str, int] | float | Literal["low", "high"] | list[Inner] | Inner

    class Other(BaseModel):
        value: Inner | list[Inner] | Literal["low", "high"] | float | dict[str, int] | Literal["off"] | bool | Duration

    one, other = (describe(model)["properties"]["value"] for model in (One, Other))
    assert one == other
    kinds = [kind for part in one["anyOf"] for kind in part if kind in ("$ref", "const")]
    assert kinds == ["$ref", "const"]
    assert [part["type"] for part in one["anyOf"] if "type" in part] == [
        *("boolean", "number", "string", "string", "array", "object", "string"),
    ]
