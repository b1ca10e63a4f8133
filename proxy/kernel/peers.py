"""The contract between the worker processes that serve one port: a question to all of them, and events for all of them.

Whoever shows or changes the whole proxy (``proxy/ops/``, the metrics) asks a question and merges the answers; so it
does the same with one process as with eight.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Reply = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Answers a question: takes what it is about, and returns what JSON can hold."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker said.

    Attributes:
        worker: its number, from 1; 0 for the parent of all of them, and for a proxy that is one process.
        said: the answer; None from a worker that is starting, has died, or did not answer in time.
        mine: whether the worker that asked is the one that answered.
    """

    worker: int
    said: Any
    mine: bool = False


class Peers(ABC):
    """The worker processes, as each of them knows all of them.

    Attributes:
        number: of this worker, from 1; 0 for a proxy that is one process.
        watched: whether another worker wants to hear what is told.
    """

    number: int = 0
    watched: bool = False

    @abstractmethod
    def on(self, question: str, reply: Reply) -> None:
        """Let `reply` answer a question, whichever worker asks it."""

    @abstractmethod
    async def ask(self, question: str, **about: Any) -> list[Answer]:
        """Ask every worker, this one included; the answers come in the order of their numbers.

        Never raises for want of an answer: where the others cannot be asked, there is the own answer alone.
        """

    @abstractmethod
    def watch(self, hear: Callable[[bytes], None] | None) -> None:
        """From now on let `hear` take what the other workers tell; None: no more."""

    @abstractmethod
    def tell(self, event: bytes) -> None:
        """Tell the workers that watch; what a slow one has no room for is lost. For a call where `watched`."""
