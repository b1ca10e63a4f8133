"""middleware/parameters/rules.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from middleware.parameters.rules import Anything, Context, Lifetime, NotAllowed, Number, Rule, Thinking, Whole, measure
from proxy.kernel.keep_alive import FOREVER


@pytest.mark.parametrize(
    ("kind", "rule", "value", "result"),
    [
        (Whole, {"max": 8}, 7, 7),
        (Whole, {"max": 8}, 8, 8),
        (Whole, {"max": 8}, 9, 8),
        (Whole, {"max": 8}, 8.5, 8),
        (Whole, {"max": 8}, 10**30, 8),
        (Whole, {"min": 2}, 1, 2),
        (Whole, {"min": 2, "max": 8}, -1, 2),
        (Whole, {"min": 2, "max": 8, "default": 3}, 4, 4),
        (Whole, {"set": 5}, 4, 5),
        (Whole, {"set": 5}, 5.0, 5.0),
        (Whole, {"default": 5}, 4, 4),
        (Whole, {"allow": [1, 2]}, 2, 2),
        (Number, {"max": 1}, 1.5, 1.0),
        (Number, {"max": 1.5}, 1, 1),
        (Lifetime, {"max": "10m"}, 601.0, 600.0),
        (Lifetime, {"max": "10m"}, FOREVER, 600.0),
        (Lifetime, {"max": "forever"}, FOREVER, FOREVER),
        (Lifetime, {"min": "1m"}, 0.0, 60.0),
        (Lifetime, {"min": "1m"}, FOREVER, FOREVER),
        (Lifetime, {"set": "forever"}, 1.0, "forever"),
        (Lifetime, {"set": "forever"}, FOREVER, FOREVER),
        (Thinking, {"set": False}, "high", False),
        (Thinking, {"allow": [False, "low"]}, "low", "low"),
        (Anything, {"set": "x"}, True, "x"),
    ],
)
def test_what_becomes_of_a_value(kind: type[Rule[Any]], rule: dict[str, Any], value: Any, result: Any) -> None:
    found = kind.model_validate(rule).judge(value)
    assert found == result
    assert isinstance(found, type(result))
    assert found != value or found is value


@pytest.mark.parametrize(
    ("kind", "rule", "value", "text"),
    [
        (Whole, {"refuse": True}, 0, "may not be set"),
        (Whole, {"refuse": True, "max": 65536}, 131072, "is more than the 65536 allowed"),
        (Whole, {"refuse": True, "min": 2, "max": 8}, 1, "is less than the 2 allowed"),
        (Lifetime, {"refuse": True, "max": "1h"}, FOREVER, "is more than the 1h allowed"),
        (Lifetime, {"refuse": True, "min": "forever"}, 9.0, "is less than the forever allowed"),
        (Whole, {"allow": [1, 2]}, 3, "is none of the values allowed"),
        (Whole, {"allow": [1]}, True, "is none of the values allowed"),
        (Thinking, {"allow": [True]}, 1, "is none of the values allowed"),
        (Thinking, {"allow": [False, "low"], "refuse": True}, "high", "is none of the values allowed"),
        (Lifetime, {"allow": ["5m"]}, FOREVER, "is none of the values allowed"),
    ],
)
def test_what_is_refused(kind: type[Rule[Any]], rule: dict[str, Any], value: Any, text: str) -> None:
    with pytest.raises(NotAllowed, match=text):
        kind.model_validate(rule).judge(value)


@pytest.mark.parametrize(("value", "result"), [(-1, 512), (-2, 512), (0, 512), (513, 512), (512, 512), (1, 1)])
def test_without_a_bound_is_more_than_any_bound(value: int, result: int) -> None:
    assert Whole(max=512).judge(value, endless=0) == result
    assert Whole(min=512).judge(value, endless=0) == (512 if value == 1 else value)


@pytest.mark.parametrize(
    ("rule", "endless", "result"),
    [
        ({"max": 8}, False, None),
        ({"max": 8}, True, 8),
        ({"max": 8, "default": 3}, True, 3),
        ({"default": 3}, False, 3),
        ({"set": 3}, False, 3),
        ({"allow": [1, 2]}, False, None),
        ({"refuse": True}, True, None),
    ],
)
def test_what_is_put_where_nothing_was_asked_for(rule: dict[str, Any], endless: bool, result: int | None) -> None:
    assert Whole.model_validate(rule).missing(endless=endless) == result


@pytest.mark.parametrize("value", ["8", "forever", "nan", [1], {}, True, None])
def test_what_is_no_number_is_within_no_bounds(value: Any) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        Anything(max=8).judge(value)


def test_the_values_of_a_rule() -> None:
    assert Whole(default=0, min=0, max=9).values == (0, 0, 9)
    assert Thinking(allow=(False, "low")).values == (False, "low")
    assert Whole(drop=True).values == ()


def test_false_is_a_value_and_true_is_not_one() -> None:
    assert repr(Anything(set=1).judge(True)) == "1"
    assert Thinking(set=False).missing() is False
    assert Thinking(set=False).judge(True) is False


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Whole, {}),
        (Whole, {"refuse": False}),
        (Whole, {"max": None}),
        (Whole, {"maximum": 3}),
        (Whole, {"min": 3, "max": 2}),
        (Whole, {"set": 3, "max": 4}),
        (Whole, {"refuse": True, "default": 4}),
        (Whole, {"drop": True, "max": 4}),
        (Whole, {"drop": False}),
        (Thinking, {"max": "high"}),
        (Thinking, {"min": True}),
        (Thinking, {"set": "huge"}),
        (Lifetime, {"max": "10"}),
        (Lifetime, {"min": "forever", "max": "1h"}),
    ],
)
def test_rules_that_make_no_sense(kind: type[Rule[Any]], rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(rule)


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers() | st.floats(allow_nan=False))
def test_what_is_let_through_is_within_bounds(low: int, high: int, value: float) -> None:
    low, high = sorted((low, high))
    assert low <= Whole(min=low, max=high).judge(value) <= high


def test_forever_is_a_number() -> None:
    assert measure("forever") == FOREVER > measure(10**9)


def test_a_context_for_apis_without_a_place_for_it() -> None:
    rule = Context.model_validate({"set": 8192, "v1": "derive"})
    assert (rule.judge(4096), rule.missing(), rule.named) == (8192, 8192, {})
    assert Context.model_validate({"drop": True, "v1": {"m": "m-32k"}}).named == {"m": "m-32k"}
    assert Context.model_validate({"v1": {"m": "m-32k"}}).judge(5) == 5


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"v1": "derive"}, "needs a set or a default"),
        ({"max": 8192, "v1": "derive"}, "needs a set or a default"),
        ({"v1": {"a b": "m"}}, "is not the name of a model"),
        ({"v1": {"m": "a b"}}, "is not the name of a model"),
        ({"v1": "make"}, "derive"),
        ({"set": 1, "max": 2, "v1": "derive"}, "stands alone"),
    ],
)
def test_a_rule_without_a_context_to_give(rule: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Context.model_validate(rule)
