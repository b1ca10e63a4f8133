"""Read and write a parameter's value in each form that it has in a request body.

``proxy/kernel/parameter_places.py`` lists the places.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from middleware.parameters.go_values import (
    read_cut,
    read_flag,
    read_number,
    read_text_or_texts,
    read_texts,
    read_whole,
    write_lifetime,
    write_texts,
)
from proxy.kernel.keep_alive import read_lifetime
from proxy.kernel.model_names import RUNNER_OPTIONS
from proxy.kernel.parameter_places import Form, Place

RUNNER: Final = (
    *(name for name in RUNNER_OPTIONS if name != "num_ctx"),
    *("low_vram", "use_mlock", "f16_kv", "logits_all", "vocab_only", "numa"),  # options of older versions
)
"""Members of ``options`` that configure the runner: if one differs from the value that the model was loaded with,
Ollama reloads the model, and all others wait. ``num_ctx`` is another, and so is ``shift``, which is not in
``options``."""

ENDLESS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("num_predict", "top_k", "num_thread"), 0),
    **dict.fromkeys(("num_gpu", "num_keep", "repeat_last_n"), -1),
}
"""Parameter → the largest value that means "without a bound"; such a value is more than any `max`."""

_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})


def _as_it_is(value: Any) -> Any:
    return value


def _read_effort(value: Any) -> bool | str | None:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return False if value == "none" else value or None  # Ollama treats an empty value as absent


def _write_effort(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "medium" if value else "none"


def _read_thinking(value: Any) -> bool | None:
    return {"enabled": True, "disabled": False}.get(value) if isinstance(value, str) else None


def _write_thinking(value: Any) -> str:
    return "enabled" if value else "disabled"


def _read_output_effort(value: Any) -> str:
    effort = value.strip().lower() if isinstance(value, str) else ""
    if effort not in _EFFORTS:
        raise ValueError("must be low, medium, high, xhigh or max")
    return "high" if effort == "xhigh" else effort


_FORMS: Final[Mapping[Form, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "any": (_as_it_is, _as_it_is),
    "number": (read_number, _as_it_is),
    "whole": (read_whole, _as_it_is),
    "cut": (read_cut, _as_it_is),
    "flag": (read_flag, _as_it_is),
    "text_or_texts": (read_text_or_texts, _as_it_is),
    "texts": (read_texts, write_texts),
    "lifetime": (read_lifetime, write_lifetime),
    "effort": (_read_effort, _write_effort),
    "thinking": (_read_thinking, _write_thinking),
    "output_effort": (_read_output_effort, _as_it_is),
}
"""Form → its reader and its writer."""


def read(place: Place, value: Any) -> Any:
    """Return `value` at `place` as Ollama reads it.

    Returns None for a value that Ollama ignores here: the type ``adaptive`` of ``thinking``, which leaves the choice to
    ``output_config``. Raises ValueError for a value that Ollama refuses.
    """
    return _FORMS[place.form][0](value)


def write(place: Place, value: Any) -> Any:
    """Return `value`, in Ollama's terms, in the form of `place`."""
    return _FORMS[place.form][1](value)


def put(place: Place, patch: dict[str, Any], value: Any) -> None:
    """Write `value` into a merge patch; None becomes ``null``, which Ollama reads as an absent member."""
    for key in place.path[:-1]:
        patch = patch.setdefault(key, {})
    patch[place.path[-1]] = None if value is None else write(place, value)


def leading(places: tuple[Place, ...], document: Mapping[str, Any]) -> Place:
    """Return the place of a parameter that Ollama reads in `document`.

    It is the first place, except that an object in the document hides the members beside it: if ``reasoning`` is
    present, even empty, Ollama ignores ``reasoning_effort``.
    """
    inside = (place for place in places if len(place.path) > 1 and isinstance(document.get(place.path[0]), dict))
    return next((place for place in inside if not place.fallback), places[0])
