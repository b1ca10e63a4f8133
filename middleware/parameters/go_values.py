"""Read values of parameters as Ollama, a Go program, reads them.

Ollama reads ``options`` into a map, in which every number is a double. If the option is an int, it then cuts off the
fraction (``Options.FromMap``): ``0.5`` is 0. The OpenAI and Anthropic routes have int fields, which encoding/json fills
only from whole numbers without a point or an exponent. A policy that judged ``0.5`` as a half would let through what
Ollama then takes for "no bound". Every reader here therefore returns the value that Ollama will use. It raises
ValueError for what Ollama refuses and what depends on the host's processor (a double beyond 64 bits).
"""

from typing import Any, Final

from proxy.kernel.keep_alive import FOREVER

_LARGEST: Final = 2**63 - 1
"""The largest Go int."""
_LARGEST_FLOAT32: Final = 3.4028235677973366e38
_SECOND: Final = 10**9


def read_number(value: Any) -> int | float:
    """Return a JSON number that fits into a float32; raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    if not -_LARGEST_FLOAT32 < value < _LARGEST_FLOAT32:
        raise ValueError("is out of range")
    return value


def read_cut(value: Any) -> int:
    """Return the value of an int member of ``options``: the number without its fraction; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    double = float(value)
    if not -_LARGEST <= double < _LARGEST:  # as a double, _LARGEST is 2**63
        raise ValueError("is out of range")
    return int(double)


def read_whole(value: Any) -> int:
    """Return the value of an int field, which refuses ``1.0`` and ``1e3``; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    if not -_LARGEST - 1 <= value <= _LARGEST:
        raise ValueError("is out of range")
    return value


def read_flag(value: Any) -> bool:
    """Return a boolean; raises ValueError for anything else, a number included."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def read_texts(value: Any) -> str | tuple[str, ...]:
    """Return a list of texts as a tuple, or the text itself if there is only one; raises ValueError."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("must be a list of texts")
    return value[0] if len(value) == 1 else tuple(value)


def read_text_or_texts(value: Any) -> str | tuple[str, ...]:
    """Return a text, or a list of texts as `read_texts` does; raises ValueError."""
    return value if isinstance(value, str) else read_texts(value)


def write_texts(value: Any) -> list[Any]:
    """Return the result of `read_texts` as a list again."""
    return [value] if isinstance(value, str) else list(value)


def write_lifetime(value: Any) -> int | str:
    """Return seconds in a form that Ollama reads without loss: it cuts off the fraction of a number."""
    if value in (FOREVER, "forever"):
        return -1
    nanoseconds = round(value * _SECOND)
    for unit, name in ((_SECOND, ""), (10**6, "ms")):
        if nanoseconds % unit == 0:
            return f"{nanoseconds // unit}{name}" if name else nanoseconds // unit
    return f"{nanoseconds}ns"
