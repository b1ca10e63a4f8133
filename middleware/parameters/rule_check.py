"""Check when the policy file is loaded that a rule for a parameter asks for something that Ollama can do."""

from typing import Any, Final

from middleware.parameters.accessors import ENDLESS, read, write
from middleware.parameters.rules import NotAllowed, Rule
from proxy.kernel.parameter_places import KNOWN, Place

_POSITIVE: Final = frozenset({"num_ctx", "n"})
"""Parameters whose value is at least 1."""


def check_rule(name: str, rule: Rule[Any]) -> None:
    """Raise ValueError if the rule would write a value that Ollama refuses, or reads as another value."""
    place = next((found[0] for parameters in KNOWN if (found := parameters.places(name))), Place((name,)))
    for value in rule.values:
        try:
            meant = read(place, write(place, value))
        except ValueError as error:
            raise ValueError(f"{name}: a value of the rule {error}") from None
        if isinstance(value, int | float) and meant != value:  # a double holds whole numbers exactly up to 2**53
            raise ValueError(f"{name}: a value of the rule must be a whole number, and not too large for a double")
        if name in _POSITIVE and value < 1:
            raise ValueError(f"{name}: a value of the rule must be at least 1")
    endless = ENDLESS.get(name)
    if endless is not None and rule.max is not None and rule.max <= endless:
        raise ValueError(f"{name}: as a max, {rule.max} would mean that there is none")
    if rule.default is not None:
        try:
            kept = rule.judge(rule.default, endless=endless) == rule.default
        except NotAllowed:
            kept = False
        if not kept:
            raise ValueError(f"{name}: the default is not among the values allowed")
