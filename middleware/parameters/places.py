"""Where each API keeps the parameters of a request, and how it writes them.

A parameter has the name that Ollama's own API gives it. The OpenAI and Anthropic routes call some of them otherwise
(``num_predict`` is ``max_tokens``), and have no place for others (``num_ctx``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from middleware.parameters.values import (
    read_cut,
    read_flag,
    read_lifetime,
    read_number,
    read_text_or_texts,
    read_texts,
    read_whole,
    write_lifetime,
    write_texts,
)
from proxy.kernel.model_names import RUNNER_OPTIONS

RUNNER: Final = (
    *(name for name in RUNNER_OPTIONS if name != "num_ctx"),
    *("low_vram", "use_mlock", "f16_kv", "logits_all", "vocab_only", "numa"),  # of older versions
)
"""Members of ``options`` that are the runner's: where one differs from what the model was loaded with, Ollama loads it
anew, and all others wait. ``num_ctx`` is one more, and so is ``shift``, which stands beside ``options``."""

ENDLESS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("num_predict", "top_k", "num_thread"), 0),
    **dict.fromkeys(("num_gpu", "num_keep", "repeat_last_n"), -1),
}
"""Parameter → from here down it means as much as there is, so that it is more than any `max`."""

_INTS: Final = frozenset(
    {
        *("num_ctx", "num_predict", "top_k", "seed", "n", "num_keep", "repeat_last_n", "mirostat", "num_batch"),
        *("num_gpu", "main_gpu", "num_thread", "draft_num_predict", "num_gqa"),
    }
)
_FLOATS: Final = frozenset(
    {
        *("temperature", "top_p", "min_p", "tfs_z", "typical_p", "repeat_penalty", "presence_penalty"),
        *("frequency_penalty", "mirostat_tau", "mirostat_eta", "rope_frequency_base", "rope_frequency_scale"),
    }
)
_FLAGS: Final = frozenset(
    {
        *("use_mmap", "use_mlock", "low_vram", "f16_kv", "logits_all", "vocab_only", "numa", "penalize_newline"),
        "shift",
    }
)
_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})


def _as_it_is(value: Any) -> Any:
    return value


def _read_effort(value: Any) -> bool | str | None:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return False if value == "none" else value or None  # an empty one is as good as none to Ollama


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
        """Write `value` into a merge patch; None as ``null``, which Ollama reads as if the member were not there."""
        for key in self.path[:-1]:
            patch = patch.setdefault(key, {})
        patch[self.path[-1]] = None if value is None else self.write(value)


def leading(places: tuple[Place, ...], document: Mapping[str, Any]) -> Place:
    """Return the one of a parameter's places that Ollama reads in `document`.

    That is the first, but an object that is there hides what stands beside it: with ``reasoning``, even an empty one,
    ``reasoning_effort`` means nothing.
    """
    inside = (place for place in places if len(place.path) > 1 and isinstance(document.get(place.path[0]), dict))
    return next((place for place in inside if not place.fallback), places[0])


_EFFORT: Final = (Place(("reasoning", "effort"), _read_effort, _write_effort),)
_KEEP_ALIVE: Final = (Place(("keep_alive",), read_lifetime, write_lifetime),)


def _members(*names: str) -> dict[str, tuple[Place, ...]]:
    return {name: (_field(name, name),) for name in names}


def _field(parameter: str, name: str) -> Place:
    """Return the place of a parameter that is a field of the OpenAI and Anthropic requests."""
    return Place((name,), read_whole if parameter in _INTS else read_number)


def _option(parameter: str) -> Place:
    """Return the place of a parameter that is a member of ``options``."""
    path = ("options", parameter)
    if parameter in _INTS:
        return Place(path, read_cut)
    if parameter in _FLOATS:
        return Place(path, read_number)
    if parameter == "stop":
        return Place(path, read_texts, write_texts)
    return Place(path, read_flag if parameter in _FLAGS else _as_it_is)


_STOP: Final = {"stop": (Place(("stop",), read_text_or_texts),)}
_OPENAI: Final = {**_members("temperature", "top_p", "seed", "n", "presence_penalty", "frequency_penalty"), **_STOP}
_V1: Final[dict[str, dict[str, tuple[Place, ...]]]] = {
    "/v1/chat/completions": {
        **_OPENAI,
        # Ollama does not know the second; its newer name in OpenAI's own API.
        "num_predict": (_field("num_predict", "max_tokens"), _field("num_predict", "max_completion_tokens")),
        "think": (Place(("reasoning_effort",), _read_effort, _write_effort), *_EFFORT),
    },
    "/v1/completions": {**_OPENAI, "num_predict": (_field("num_predict", "max_tokens"),)},
    "/v1/responses": {
        **_members("temperature", "top_p"),
        "num_predict": (_field("num_predict", "max_output_tokens"),),
        "think": _EFFORT,
    },
    "/v1/messages": {
        **_members("temperature", "top_p", "top_k"),
        "num_predict": (_field("num_predict", "max_tokens"),),
        "stop": (Place(("stop_sequences",), read_texts, write_texts),),
        "think": (
            Place(("thinking", "type"), _read_thinking, _write_thinking),
            Place(("output_config", "effort"), _read_output_effort, fallback=True),
        ),
    },
}
_GENERATE: Final = ("/api/generate", "/api/chat")
_EMBED: Final = ("/api/embed", "/api/embeddings")

BARE: Final[Mapping[str, str]] = {"/api/generate": "prompt", "/api/chat": "messages"}
"""Route → the member without which a request only loads the model, or with a ``keep_alive`` of 0 unloads it."""

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
    if parameter == "shift":
        return (Place(("shift",), read_flag),) if route in _GENERATE else ()
    if parameter == "n" or (parameter == "num_predict" and route in _EMBED):
        return ()
    return (_option(parameter),)
