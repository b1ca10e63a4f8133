"""The contract of the keeper of objects that outlive a reload."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")


class Keepsakes(ABC):
    """Keeps what plugins learned while they ran, so that they find it again when a new policy file is in force.

    An object is kept for as long as a plugin holds it. The old chain holds its objects until the new chain is built.
    """

    @abstractmethod
    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object of `key`; where nobody holds one, keep and return what `make` returns.

        The object must depend on nothing that `key` does not say.
        """
