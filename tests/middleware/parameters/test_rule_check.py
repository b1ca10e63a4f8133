"""middleware/parameters/rule_check.py; what is wrong with rules stands in test_parameters.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.parameters.accessors import ENDLESS, read
from middleware.parameters.rule_check import check_rule
from middleware.parameters.rules import Anything, Flag, Lifetime, Number, Rule, Thinking, Whole
from proxy.kernel.parameter_places import CHAT


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("num_ctx", Whole(max=8192)),
        ("num_ctx", Whole(drop=True)),
        ("num_predict", Whole(default=-1)),
        ("num_predict", Whole(default=1024, max=4096)),
        ("num_predict", Whole(allow=(-1, 100))),
        ("keep_alive", Lifetime.model_validate({"min": "0s", "max": "forever"})),
        ("keep_alive", Lifetime.model_validate({"set": "1.5ms"})),
        ("temperature", Number(min=0, max=1.5, default=0.7)),
        ("think", Thinking(allow=(False, "low", "max"))),
        ("shift", Flag(set=False)),
        ("num_gpu", Anything(set=-1)),
        ("use_mmap", Anything(allow=(True,))),
        ("repeat_penalty", Anything(max=1.5)),
        ("stop", Anything(set="END")),
        ("of_another_version", Anything(set="x")),
    ],
)
def test_rules_that_make_sense(name: str, rule: Rule[Any]) -> None:
    check_rule(name, rule)


@given(st.sampled_from(sorted(ENDLESS)), st.integers(-(2**70), 2**70) | st.integers(2**53 - 3, 2**53 + 3))
def test_a_max_that_is_taken_bounds(name: str, most: int) -> None:
    rule = Anything(max=most)
    try:
        check_rule(name, rule)
    except ValueError:
        return
    written = read(CHAT.places(name)[0], rule.judge(most + 1, endless=ENDLESS[name]))
    assert ENDLESS[name] < written <= most
