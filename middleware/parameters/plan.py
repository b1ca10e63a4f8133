"""What the rules of `parameters` do to one request's body."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from middleware.parameters.places import ENDLESS, leading, put, read
from middleware.parameters.rules import NotAllowed, Rule
from proxy.kernel.parameter_places import ParameterPlaces, Place

_UNBOUNDED: Final = "num_predict"
"""Left out, it means a reply without a bound: a `max` holds there, too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is looked at on the routes that keep their parameters in the same places.

    Attributes:
        always: what may act where nothing was asked for, or stands somewhere of its own.
        options: member of ``options`` → what acts only where that is there; most requests have none of them.
    """

    always: tuple["Step", ...]
    options: Mapping[str, "Step"]

    def steps(self, document: Mapping[str, Any]) -> Iterable["Step"]:
        """Return what there is to do for `document`."""
        asked = document.get("options") if self.options else None
        if asked is None:
            return self.always
        if not isinstance(asked, dict):
            return (*self.always, *self.options.values())  # the first of them will refuse it
        return (*self.always, *(step for name, step in self.options.items() if name in asked))


@dataclass(frozen=True, slots=True)
class Step:
    """One parameter, and where it stands."""

    name: str
    rule: Rule[Any]
    places: tuple[Place, ...]
    bare: str | None = None
    """The member without which the request only loads or unloads the model; for ``keep_alive``."""

    def apply(self, document: Mapping[str, Any], patch: dict[str, Any]) -> None:
        """Add what has to change to `patch`; raises ValueError or NotAllowed."""
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
                    asked = wanted  # where Ollama does not read it, and it would not hold
        if not said:
            value = self.missing if asked is None else asked
            if value is not None:
                self._check_bare(None, value, document)
                put(lead, patch, value)

    @property
    def missing(self) -> Any:
        """What is put where nothing was asked for, None for nothing."""
        return self.rule.missing(endless=self.name == _UNBOUNDED)

    def _read(self, place: Place, written: Any) -> Any:
        """Return what Ollama will use; where the rule decides alone, what Ollama refuses is no worse than the rest."""
        try:
            return read(place, written)
        except ValueError:
            if self.rule.drop or self.rule.set is not None:
                return written
            raise

    def _judge(self, value: Any, document: Mapping[str, Any]) -> Any:
        """Return what becomes of `value`, None where it is dropped; raises ValueError or NotAllowed."""
        wanted = None if self.rule.drop else self.rule.judge(value, endless=ENDLESS.get(self.name))
        if wanted is not value:
            self._check_bare(value, wanted, document)
        return wanted

    def _check_bare(self, value: Any, wanted: Any, document: Mapping[str, Any]) -> None:
        """Raise NotAllowed where the change would make a load of what is to unload a model, or the reverse."""
        if self.bare is not None and not document.get(self.bare) and (value == 0) != (wanted == 0):
            raise NotAllowed(f"may not be used to {'unload' if value == 0 else 'load'} a model")


def _steps(parameters: ParameterPlaces, rules: Mapping[str, Rule[Any] | None]) -> Iterator[Step]:
    for name, rule in rules.items():
        if rule is not None and (found := parameters.places(name)):
            yield Step(name, rule, found, parameters.bare if name == "keep_alive" else None)


def plan_of(parameters: ParameterPlaces, rules: Mapping[str, Rule[Any] | None]) -> Plan:
    """Return what `rules`, by the names of parameters, come to where these stand as `parameters` says."""
    always: list[Step] = []
    options: dict[str, Step] = {}
    for step in _steps(parameters, rules):
        if step.places[0].path[0] == "options" and step.missing is None:
            options[step.name] = step
        else:
            always.append(step)
    return Plan(tuple(always), options)
