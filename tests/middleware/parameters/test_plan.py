"""middleware/parameters/plan.py; what becomes of bodies stands in test_parameters.py."""

from typing import Any

import pytest

from middleware.parameters.plan import plan_of
from middleware.parameters.rules import Anything, Lifetime, Rule, Whole
from proxy.kernel.parameter_places import CHAT, CHAT_COMPLETIONS, EMBED, GENERATE, ParameterPlaces

RULES: dict[str, Rule[Any] | None] = {
    "num_ctx": Whole(drop=True),
    "num_predict": Whole(max=9),
    "seed": Whole(default=1),
    "top_k": None,
    "keep_alive": Lifetime.model_validate({"min": "5m"}),
    "num_gpu": Anything(max=9),
}


@pytest.mark.parametrize(
    ("document", "looked_at"),
    [
        ({}, ["num_predict", "seed", "keep_alive"]),
        ({"options": None}, ["num_predict", "seed", "keep_alive"]),
        ({"options": {"temperature": 1}}, ["num_predict", "seed", "keep_alive"]),
        ({"options": {"num_gpu": 1}}, ["num_predict", "seed", "keep_alive", "num_gpu"]),
        ({"options": {"num_gpu": 1, "num_ctx": None}}, ["num_predict", "seed", "keep_alive", "num_ctx", "num_gpu"]),
        ({"options": "x"}, ["num_predict", "seed", "keep_alive", "num_ctx", "num_gpu"]),
    ],
)
def test_only_what_is_there_or_missed_is_looked_at(document: dict[str, Any], looked_at: list[str]) -> None:
    assert [step.name for step in plan_of(CHAT, RULES).steps(document)] == looked_at


def test_a_route_without_options_has_none_to_look_at() -> None:
    plan = plan_of(CHAT_COMPLETIONS, RULES)
    assert [step.name for step in plan.always] == ["num_predict", "seed"]
    assert not plan.options


@pytest.mark.parametrize(
    ("parameters", "bare"), [(CHAT, "messages"), (GENERATE, "prompt"), (EMBED, None)], ids=["chat", "generate", "embed"]
)
def test_a_request_without_its_words_only_loads(parameters: ParameterPlaces, bare: str | None) -> None:
    (step,) = (step for step in plan_of(parameters, RULES).always if step.name == "keep_alive")
    assert step.bare == bare
