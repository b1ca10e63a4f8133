"""The rule of a policy for one parameter, and its effect on a value."""

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from proxy.kernel.keep_alive import FOREVER
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.units import DurationOrZero, format_duration

T = TypeVar("T")


class NotAllowed(Exception):
    """The policy refuses a value; the text says why, without naming the policy."""


class Rule(BaseModel, Generic[T]):
    """The rule for one parameter. `set` and `drop` stand alone; the others bound the value, or list those allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    set: Annotated[T | None, Field(description="this value, whatever was asked for")] = None
    default: Annotated[T | None, Field(description="this value where none was asked for")] = None
    min: Annotated[T | None, Field(description="the least; less becomes this")] = None
    max: Annotated[T | None, Field(description="the most; more becomes this")] = None
    allow: Annotated[tuple[T, ...] | None, Field(description="the only values; others are refused")] = None
    refuse: Annotated[
        bool, Field(description="refuse what is beyond min and max; without them, whoever asks for anything")
    ] = False
    drop: Annotated[bool, Field(description="forget what was asked for: the model's or the host's own holds")] = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if any(isinstance(bound, bool) or (isinstance(bound, str) and bound != "forever") for bound in bounds):
            raise ValueError("min and max need numbers; use allow")
        if len(bounds) == 2 and measure(self.min) > measure(self.max):
            raise ValueError("min is more than max")
        if self.set is not None and len(self.model_fields_set - {"v1"}) > 1:
            raise ValueError("set leaves nothing to choose: it stands alone")
        if self.drop and len(self.model_fields_set - {"v1"}) > 1:
            raise ValueError("drop leaves nothing to choose: it stands alone")
        if not (self.refuse or self.drop or "v1" in self.model_fields_set) and all(
            v is None for v in (self.set, self.default, self.min, self.max, self.allow)
        ):
            raise ValueError("say what to do: set, default, min, max, allow, refuse or drop")
        if self.default is not None and not bounds and self.allow is None and self.refuse:
            raise ValueError("a default for a parameter that is refused: use set")
        return self

    @property
    def bounded(self) -> bool:
        """Return whether the rule has a range."""
        return self.min is not None or self.max is not None

    @property
    def values(self) -> tuple[T, ...]:
        """Return every value that the rule contains."""
        return tuple(v for v in (self.set, self.default, self.min, self.max, *(self.allow or ())) if v is not None)

    def judge(self, value: Any, *, endless: int | None = None) -> Any:
        """Return the value to use for a requested `value`; the same object if the rule does not change it.

        Args:
            value: the requested value, its type already checked.
            endless: from this value down, a value means "without a bound", as from 0 for ``num_predict``.

        Raises:
            NotAllowed: the policy refuses the value.
            ValueError: the rule has a range and the value is not a number.
        """
        if self.set is not None:
            return value if _same(value, self.set) else self.set
        if self.allow is not None and not any(_same(value, allowed) for allowed in self.allow):
            raise NotAllowed("is none of the values allowed")
        if not self.bounded:
            if self.refuse and self.allow is None:
                raise NotAllowed("may not be set")
            return value
        if value.__class__ not in (int, float):
            raise ValueError("must be a number")
        size = FOREVER if endless is not None and value <= endless else measure(value)
        if self.max is not None and size > measure(self.max):
            return self._beyond("is more than", self.max)
        if self.min is not None and size < measure(self.min):
            return self._beyond("is less than", self.min)
        return value

    def missing(self, *, endless: bool = False) -> T | None:
        """Return the value to set if the request has none, or None."""
        value = self.default if self.set is None else self.set
        return self.max if value is None and endless else value

    def _beyond(self, how: str, bound: T) -> T:
        if self.refuse:
            raise NotAllowed(f"{how} the {self._shown(bound)} allowed")
        return bound

    def _shown(self, bound: T) -> str:
        return str(bound)


class Lifetime(Rule[DurationOrZero | Literal["forever"]]):
    """The rule for a duration."""

    def _shown(self, bound: Any) -> str:
        return "forever" if bound == "forever" else format_duration(bound)


class Context(Rule[int]):
    """The rule for the size of the context."""

    v1: Annotated[
        Literal["derive"] | dict[str, str] | None,
        Field(description="for APIs without a place for it: `derive` a model that has it, or {model: the one to use}"),
    ] = None

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if self.v1 == "derive" and self.set is None and self.default is None:
            raise ValueError("v1: derive needs a set or a default, the context to give")
        for name in (text for pair in self.named.items() for text in pair):
            if parse_model(name) is None:
                raise ValueError(f"v1: {name!r} is not the name of a model")
        return self

    @property
    def named(self) -> dict[str, str]:
        """Return the models to use in place of others, by their names."""
        return self.v1 if isinstance(self.v1, dict) else {}


Whole = Rule[int]
Flag = Rule[bool]
Number = Rule[float]
Thinking = Rule[bool | Literal["low", "medium", "high", "max"]]
Anything = Rule[bool | int | float | str]


def measure(value: Any) -> float:
    """Return `value` as a number; ``forever`` is larger than any other."""
    return FOREVER if value == "forever" else value


def _same(value: object, other: object) -> bool:
    """Return whether both are the same value; ``true`` is not 1."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    return value == other or (other == "forever" and value == FOREVER)
