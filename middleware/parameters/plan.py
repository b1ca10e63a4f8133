"""Apply the rules of `parameters` to the body of one request."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from middleware.parameters.accessors import ENDLESS, leading, put, read
from middleware.parameters.rules import NotAllowed, Rule
from proxy.kernel.parameter_places import ParameterPlaces, Place

_UNBOUNDED: Final = "num_predict"
"""If this parameter is absent, the model may go on far beyond any `max`, so a `max` applies then too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps for routes that keep their parameters in the same places.

    Attributes:
        always: steps for every request: they may set an absent parameter, or read outside ``options``.
        options: member of ``options`` → its step, needed only if the member is present; most requests have none of
            them.
    """

    always: tuple["Step", ...]
    options: Mapping[str, "Step"]

    def steps(self, document: Mapping[str, Any]) -> Iterable["Step"]:
        """Return the steps for `document`."""
        asked = document.get("options") if self.options else None
        if asked is None:
            return self.always
        if not isinstance(asked, dict):
            return (*self.always, *self.options.values())  # the first of these steps raises the error
        return (*self.always, *(step for name, step in self.options.items() if name in asked))


@dataclass(frozen=True, slots=True)
class Step:
    """The step that applies one rule: the parameter, its rule, and the places of its value in the body."""

    name: str
    rule: Rule[Any]
    places: tuple[Place, ...]
    bare: str | None = None
    """For ``keep_alive``: the member without which the request only loads or unloads the model."""

    def apply(self, document: Mapping[str, Any], patch: dict[str, Any]) -> None:
        """Add the necessary changes to `patch`; raises ValueError or NotAllowed."""
        lead = leading(self.places, document)
        said = False
        asked = None
        for place in self.places:
            if place.fallback and said:
                continue
            written = place.find(document)
            value = None if written is None else self._read(place, written)
            if value is not None:
                wanted = self._judge(value, document)
                if wanted is not value:
                    put(lead if place.fallback and wanted is not None else place, patch, wanted)
                if place is lead or place.fallback:
                    said = True
                else:
                    asked = wanted  # Ollama does not read this place, so the value must move to the one it reads
        if not said:
            value = self.missing if asked is None else asked
            if value is not None:
                self._check_bare(None, value, document)
                put(lead, patch, value)

    @property
    def missing(self) -> Any:
        """Return the value to set if the request has none; None if the rule sets none."""
        return self.rule.missing(endless=self.name == _UNBOUNDED)

    def _read(self, place: Place, written: Any) -> Any:
        """Return the value as Ollama reads it. A value that Ollama refuses passes if the rule replaces it anyway."""
        try:
            return read(place, written)
        except ValueError:
            if self.rule.drop or self.rule.set is not None:
                return written
            raise

    def _judge(self, value: Any, document: Mapping[str, Any]) -> Any:
        """Return the value that the rule gives for `value`, None to drop it; raises ValueError or NotAllowed."""
        wanted = None if self.rule.drop else self.rule.judge(value, endless=ENDLESS.get(self.name))
        if wanted is not value:
            self._check_bare(value, wanted, document)
        return wanted

    def _check_bare(self, value: Any, wanted: Any, document: Mapping[str, Any]) -> None:
        """Raise NotAllowed if the change would turn an unload of a model into a load, or the reverse."""
        if self.bare is not None and not document.get(self.bare) and (value == 0) != (wanted == 0):
            raise NotAllowed(f"may not be used to {'unload' if value == 0 else 'load'} a model")


def _steps(parameters: ParameterPlaces, rules: Mapping[str, Rule[Any] | None]) -> Iterator[Step]:
    for name, rule in rules.items():
        if rule is not None and (found := parameters.places(name)):
            yield Step(name, rule, found, parameters.bare if name == "keep_alive" else None)


def plan_of(parameters: ParameterPlaces, rules: Mapping[str, Rule[Any] | None]) -> Plan:
    """Return the plan for `rules`, by parameter name, on routes whose `parameters` have these places."""
    always: list[Step] = []
    options: dict[str, Step] = {}
    for step in _steps(parameters, rules):
        if step.places[0].path[0] == "options" and step.missing is None:
            options[step.name] = step
        else:
            always.append(step)
    return Plan(tuple(always), options)
