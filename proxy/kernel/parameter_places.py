"""Where each API keeps the parameters of a request, and in which form, as data.

A parameter has the name that Ollama's own API gives it. The OpenAI and Anthropic routes call some of them otherwise
(``num_predict`` is ``max_tokens``), and have no place for others (``num_ctx``). A route says by its `ParameterPlaces`
which of these holds (``proxy/kernel/ollama_routes.py``); `parameters` governs by it, and quotas find the bound of an
answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

Form = Literal[
    "any", "number", "whole", "cut", "flag", "text_or_texts", "texts", "lifetime", "effort", "thinking", "output_effort"
]
"""How a value is written: see the readers of the same names in ``middleware/parameters/accessors.py``."""

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


@dataclass(frozen=True, slots=True)
class Place:
    """One member of a request's body.

    Attributes:
        path: the keys that lead to it, one or two.
        form: how a value is written there.
        fallback: it counts only where no other place says anything, and cannot say all that the others can.
    """

    path: tuple[str, ...]
    form: Form = "any"
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


@dataclass(frozen=True, slots=True, eq=False)
class ParameterPlaces:
    """Where the requests of one or several routes keep their parameters; compared by identity.

    Attributes:
        members: parameter → its places, the one for a new value first.
        options: every other parameter is a member of ``options``, but for those in `absent`.
        absent: parameters that these requests do not have, although they have ``options``.
        bare: the member without which a request only loads the model, or with a ``keep_alive`` of 0 unloads it.
    """

    members: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    options: bool = False
    absent: frozenset[str] = frozenset()
    bare: str | None = None

    @property
    def any(self) -> bool:
        """Whether there are any parameters."""
        return self.options or bool(self.members)

    def places(self, parameter: str) -> tuple[Place, ...]:
        """Return where `parameter` may stand, the place for a new value first; maybe nowhere."""
        found = self.members.get(parameter)
        if found is not None:
            return found
        return _option(parameter) if self.options and parameter not in self.absent else ()

    def bound(self, document: Mapping[str, Any]) -> int | None:
        """Return the tokens that an answer to `document` may have by its own words, None where it sets no bound."""
        places = self.places("num_predict")
        try:
            value = places[0].find(document) if places else None
        except ValueError:  # Ollama will refuse it
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 1:  # else it is no bound
            return int(value)
        return None


def _field(parameter: str, name: str) -> Place:
    """Return the place of a parameter that is a field of the OpenAI and Anthropic requests."""
    return Place((name,), "whole" if parameter in _INTS else "number")


@lru_cache(maxsize=256)
def _option(parameter: str) -> tuple[Place, ...]:
    """Return the place of a parameter that is a member of ``options``."""
    form: Form = "any"
    if parameter in _INTS:
        form = "cut"
    elif parameter in _FLOATS:
        form = "number"
    elif parameter in _FLAGS:
        form = "flag"
    elif parameter == "stop":
        form = "texts"
    return (Place(("options", parameter), form),)


def _members(*names: str) -> dict[str, tuple[Place, ...]]:
    return {name: (_field(name, name),) for name in names}


_KEEP_ALIVE: Final = {"keep_alive": (Place(("keep_alive",), "lifetime"),)}
_OWN: Final = {**_KEEP_ALIVE, "think": (Place(("think",)),), "shift": (Place(("shift",), "flag"),)}
_EFFORT: Final = (Place(("reasoning", "effort"), "effort"),)
_OPENAI: Final = {
    **_members("temperature", "top_p", "seed", "n", "presence_penalty", "frequency_penalty"),
    "stop": (Place(("stop",), "text_or_texts"),),
}

GENERATE: Final = ParameterPlaces(_OWN, options=True, absent=frozenset({"n"}), bare="prompt")
CHAT: Final = ParameterPlaces(_OWN, options=True, absent=frozenset({"n"}), bare="messages")
EMBED: Final = ParameterPlaces(_KEEP_ALIVE, options=True, absent=frozenset({"n", "num_predict", "think", "shift"}))
CHAT_COMPLETIONS: Final = ParameterPlaces(
    {
        **_OPENAI,
        # Ollama does not know the second; its newer name in OpenAI's own API.
        "num_predict": (_field("num_predict", "max_tokens"), _field("num_predict", "max_completion_tokens")),
        "think": (Place(("reasoning_effort",), "effort"), *_EFFORT),
    }
)
COMPLETIONS: Final = ParameterPlaces({**_OPENAI, "num_predict": (_field("num_predict", "max_tokens"),)})
RESPONSES: Final = ParameterPlaces(
    {
        **_members("temperature", "top_p"),
        "num_predict": (_field("num_predict", "max_output_tokens"),),
        "think": _EFFORT,
    }
)
MESSAGES: Final = ParameterPlaces(
    {
        **_members("temperature", "top_p", "top_k"),
        "num_predict": (_field("num_predict", "max_tokens"),),
        "stop": (Place(("stop_sequences",), "texts"),),
        "think": (
            Place(("thinking", "type"), "thinking"),
            Place(("output_config", "effort"), "output_effort", fallback=True),
        ),
    }
)
NONE: Final = ParameterPlaces()
"""Of requests that have no parameter at all."""

KNOWN: Final = (GENERATE, CHAT, EMBED, CHAT_COMPLETIONS, COMPLETIONS, RESPONSES, MESSAGES)
"""All that have any."""
