"""What is noted of a request at its backends: its attempts and their failures, the slot held for it, its tokens."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request.

    Attributes:
        tokens_in: prompt tokens, None where nobody knows.
        tokens_out: generated tokens.
        source: "reported" by the backend, or "estimated" from delivered chunks where no report came.
        done_reason: why generation ended, in the backend's word (``stop``, ``length``, …).
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    source: Literal["reported", "estimated"] = "reported"
    done_reason: str | None = None


class Attempt(NamedTuple):
    """One request to one backend that is over. Times are seconds of the monotonic clock.

    Attributes:
        backend: its name.
        began: when a slot of it was taken.
        ended: when that was given back.
        cold: whether it had to load the model first, as far as was known.
        error: what went wrong: an error's code, for an error answer ``busy``, ``missing`` (it does not have the model),
            ``content`` (it is about the request) or ``status_500``; ``cancelled`` where the request ended before its
            answer. None where it came whole.
    """

    backend: str
    began: float
    ended: float
    cold: bool
    error: str | None


class Held(Protocol):
    """A slot of a backend that is held for a request."""

    def give_back(self) -> None:
        """Give it up unused."""


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """A send that failed and may be the backend's fault, see `proxy.pool.blame`; two are never equal.

    Attributes:
        backend: its name.
        host: the backend itself, as `proxy.pool.blame` knows it.
        model: canonical key of the model that was asked for, None where none was.
        reason: what went wrong, for the operator's eyes.
        said: status and text of an error answer, where another backend's saying the same makes it the request's own;
            None of all others.
        broke: the request was sent, and the backend or its runner died without an answer.
        at: when it failed, seconds of the monotonic clock.
    """

    backend: str
    host: Hashable
    model: str | None
    reason: str
    said: tuple[int, str] | None
    broke: bool
    at: float


def broken(failures: Iterable[Failure]) -> list[str]:
    """Return the names of the backends that a request was sent to and lost at, once for each time."""
    return [failure.backend for failure in failures if failure.broke]
