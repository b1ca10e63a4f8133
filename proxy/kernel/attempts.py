"""Records of a request at its backends: its attempts and their failures, the slot that it holds, its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one request.

    Attributes:
        tokens_in: prompt tokens, None where unknown.
        tokens_out: generated tokens, None where unknown.
        source: "reported" by the backend, or "estimated" from delivered chunks where no report came.
        done_reason: why the generation ended, in the backend's word (``stop``, ``length``, …).
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    source: Literal["reported", "estimated"] = "reported"
    done_reason: str | None = None


class Attempt(NamedTuple):
    """One send of a request to one backend, which has ended. Times are seconds of the monotonic clock.

    Attributes:
        backend: the name of the backend.
        began: when a slot of the backend was taken.
        ended: when the slot was given back.
        cold: whether the backend had to load the model first, as far as was known.
        error: what failed: an error's code; for an error answer ``busy``, ``missing`` (the backend lacks the model),
            ``content`` (the error is about the request) or ``status_500``; ``cancelled`` where the request ended before
            its answer did. None where the whole answer came.
        silent: whether it failed without an answer, so that the backend may be gone, and come back.
    """

    backend: str
    began: float
    ended: float
    cold: bool
    error: str | None
    silent: bool = False


class Held(Protocol):
    """A slot of a backend that a request holds."""

    def give_back(self) -> None:
        """Give the slot back unused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failure:
    """A failed send. The pool adds what it needs to decide whose fault it was: see `proxy.pool.backend_failure`.

    Attributes:
        backend: the name of the backend.
        broke: whether the request was sent, and the backend or its runner died without an answer.
    """

    backend: str
    broke: bool


def broken(failures: Sequence[Failure]) -> list[str]:
    """Return the names of the backends that died on a request, one name for each send."""
    return [failure.backend for failure in failures if failure.broke]
