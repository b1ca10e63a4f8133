"""Where a home that one process has to itself keeps its entries: the contract between the rules and the storage."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proxy.kernel.journal import Entry, Query


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as it is stored, and what its readers do not see.

    Attributes:
        number: grows with every entry.
        key: its idempotency key.
        ready_at: when it may be claimed again, in seconds since 1970; 0 for at once.
    """

    entry: Entry
    number: int
    weight: float
    most_answer: int
    key: str | None = None
    ready_at: float = 0.0

    def but(self, *, ready_at: float | None = None, **changes: Any) -> "Row":
        """Return the row with other fields of its entry."""
        return replace(
            self, entry=replace(self.entry, **changes), ready_at=self.ready_at if ready_at is None else ready_at
        )


class Shelf(ABC):
    """Rows, bodies and records, by id. Whoever calls it is one thread; a change is seen by the next call."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield every row, oldest first."""

    @abstractmethod
    def get(self, id: str) -> Row | None:
        """Return a row."""

    @abstractmethod
    def put(self, row: Row) -> None:
        """Put a row in, or in the place of the one with its id."""

    @abstractmethod
    def remove(self, id: str) -> None:
        """Remove a row with its body and record."""

    @abstractmethod
    def by_key(self, owner: str, key: str) -> Row | None:
        """Return the row of an owner that has this idempotency key."""

    @abstractmethod
    def find(self, query: Query) -> Sequence[Row]:
        """Return the rows that a query asks for, newest first."""

    @abstractmethod
    def count(self, parent: str | None) -> dict[str, int]:
        """Return how many rows a batch has, by state; with None, how many of kind ``request`` there are."""

    @abstractmethod
    def put_body(self, id: str, data: bytes) -> None:
        """Keep the body of a row that was put in before. Raises JournalFull."""

    @abstractmethod
    def body(self, id: str) -> bytes:
        """Return the body of a row."""

    @abstractmethod
    def append(self, id: str, offset: int, data: bytes) -> None:
        """Append to the record of a row, which has `offset` bytes. Raises JournalFull."""

    @abstractmethod
    def read(self, id: str, offset: int, limit: int) -> bytes:
        """Return at most `limit` bytes of a record from `offset`."""

    @abstractmethod
    def clear(self, id: str) -> None:
        """Empty the record of a row."""
