"""Where each API keeps the parameters of a request, and how it writes them.

A parameter has the name that Ollama's own API gives it. The OpenAI and Anthropic routes call some of them otherwise
(``num_predict`` is ``max_tokens``), and have no place for others (``num_ctx``).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from middleware.parameter_rules import FOREVER

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_DURATION: Final = re.compile(rf"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:{'|'.join(_UNITS)}))+")
_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})
_TERM: Final = re.compile(rf"([0-9.]+)({'|'.join(_UNITS)})")


def _as_it_is(value: Any) -> Any:
    return value


def read_number(value: Any) -> int | float:
    """Return a JSON number; raises ValueError for anything else, as Ollama would."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return value


def read_lifetime(value: Any) -> float:
    """Return ``keep_alive`` in seconds, FOREVER for what is negative; raises ValueError for what Ollama cannot read.

    It is a number of seconds or the text of a duration, https://pkg.go.dev/time#ParseDuration.
    """
    if isinstance(value, str):
        if value in ("0", "+0", "-0"):
            return 0.0
        if len(value) > 64 or not _DURATION.fullmatch(value):
            raise ValueError("must be a duration like 10m, or seconds")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _TERM.findall(value))
        return FOREVER if value[0] == "-" and seconds else seconds
    seconds = read_number(value)
    return FOREVER if seconds < 0 else float(seconds)


def write_lifetime(value: Any) -> int | str:
    """Return seconds as Ollama reads them: it cuts off the fraction of a number."""
    if value in (FOREVER, "forever"):
        return -1
    return int(value) if value == int(value) else f"{round(value * 1000)}ms"


def _read_effort(value: Any) -> bool | str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return False if value == "none" else value


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


@dataclass(frozen=True, slots=True)
class Place:
    """One member of a request's body.

    Attributes:
        path: the keys that lead to it, one or two.
        read: what the API's value means in Ollama's terms, None for one it passes over (the type ``adaptive`` of
            ``thinking``, which leaves it to ``output_config``); raises ValueError for one that Ollama refuses.
        write: the other way round.
        fallback: it counts only where no other place says anything, and cannot say all that the others can.
    """

    path: tuple[str, ...]
    read: Callable[[Any], Any] = _as_it_is
    write: Callable[[Any], Any] = _as_it_is
    fallback: bool = False

    def find(self, document: Mapping[str, Any]) -> Any:
        """Return the value in `document`, None where there is none; raises ValueError where it has no place."""
        for key in self.path[:-1]:
            inner = document.get(key)
            if inner is None:
                return None
            if not isinstance(inner, dict):
                raise ValueError(f"needs {key} to be an object")
            document = inner
        return document.get(self.path[-1])

    def put(self, patch: dict[str, Any], value: Any) -> None:
        """Write `value` into a merge patch."""
        for key in self.path[:-1]:
            patch = patch.setdefault(key, {})
        patch[self.path[-1]] = self.write(value)


def leading(places: tuple[Place, ...], document: Mapping[str, Any]) -> Place:
    """Return the one of a parameter's places that Ollama reads in `document`.

    That is the first, but an object that is there hides what stands beside it: with ``reasoning``, even an empty one,
    ``reasoning_effort`` means nothing.
    """
    inside = (place for place in places if len(place.path) > 1 and isinstance(document.get(place.path[0]), dict))
    return next((place for place in inside if not place.fallback), places[0])


_NUMBERS: Final = frozenset({"num_ctx", "num_predict", "temperature", "top_p", "top_k", "seed", "n"})
_EFFORT: Final = (Place(("reasoning", "effort"), _read_effort, _write_effort),)
_KEEP_ALIVE: Final = (Place(("keep_alive",), read_lifetime, write_lifetime),)


def _members(*names: str) -> dict[str, tuple[Place, ...]]:
    return {name: (_member(name, name),) for name in names}


def _member(parameter: str, *path: str) -> Place:
    return Place(path, read_number) if parameter in _NUMBERS else Place(path)


_OPENAI: Final = _members("temperature", "top_p", "seed", "n", "stop", "presence_penalty", "frequency_penalty")
_V1: Final[dict[str, dict[str, tuple[Place, ...]]]] = {
    "/v1/chat/completions": {
        **_OPENAI,
        # Ollama does not know the second; its newer name in OpenAI's own API.
        "num_predict": (_member("num_predict", "max_tokens"), _member("num_predict", "max_completion_tokens")),
        "think": (Place(("reasoning_effort",), _read_effort, _write_effort), *_EFFORT),
    },
    "/v1/completions": {**_OPENAI, "num_predict": (_member("num_predict", "max_tokens"),)},
    "/v1/responses": {
        **_members("temperature", "top_p"),
        "num_predict": (_member("num_predict", "max_output_tokens"),),
        "think": _EFFORT,
    },
    "/v1/messages": {
        **_members("temperature", "top_p", "top_k"),
        "num_predict": (_member("num_predict", "max_tokens"),),
        "stop": (Place(("stop_sequences",)),),
        "think": (
            Place(("thinking", "type"), _read_thinking, _write_thinking),
            Place(("output_config", "effort"), _read_output_effort, fallback=True),
        ),
    },
}
_GENERATE: Final = ("/api/generate", "/api/chat")
_EMBED: Final = ("/api/embed", "/api/embeddings")

ROUTES: Final = (*_GENERATE, *_EMBED, *_V1)
"""The routes that have parameters."""


def places(route: str, parameter: str) -> tuple[Place, ...]:
    """Return where `parameter` may stand in a body for `route`, the place for a new value first; maybe nowhere."""
    if route in _V1:
        return _V1[route].get(parameter, ())
    if parameter == "keep_alive":
        return _KEEP_ALIVE
    if parameter == "think":
        return (Place(("think",)),) if route in _GENERATE else ()
    if parameter == "n" or (parameter == "num_predict" and route in _EMBED):
        return ()
    return (_member(parameter, "options", parameter),)
