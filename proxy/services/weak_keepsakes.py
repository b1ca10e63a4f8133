"""Objects that outlive a reload, kept by weak references."""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast
from weakref import WeakValueDictionary

from proxy.kernel.keepsakes import Keepsakes

T = TypeVar("T")


class WeakKeepsakes(Keepsakes):
    """Keeps an object for as long as somebody else holds it."""

    def __init__(self) -> None:
        self._kept: WeakValueDictionary[Hashable, object] = WeakValueDictionary()

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object of `key`; where nobody holds one, keep and return what `make` returns."""
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return cast(T, found)
