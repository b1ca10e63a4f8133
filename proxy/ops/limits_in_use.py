"""The limits in use: a store that remembers the quotas that it was asked about lately."""

from collections.abc import Awaitable, Coroutine, Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

from limits.aio.storage import Storage as LimitsStorage

from proxy.kernel.quotas import Admission, Level, Quota, Reservation
from proxy.kernel.store import Store, StoreUnavailable
from proxy.ops.document_types import Limit

REMEMBERED: Final = 1000
"""The number of quotas that are remembered; the one that was asked about longest ago is forgotten first."""
SHOWN: Final = 50
HIDDEN: Final = ("ollama-signature/",)
"""Beginnings of the keys of quotas that are no limits: they mark a signature that must not be used twice."""


class Board(Store):
    """A store around another store that remembers the quotas it was asked to admit requests under.

    It does not remember how full they are: `in_use` asks the other store.
    """

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.url = store.url
        self.local = store.local
        self._quotas: dict[str, Quota] = {}

    @property
    def limits(self) -> LimitsStorage:
        """See `Store.limits`."""
        return self.inner.limits

    async def connect(self) -> None:
        """See `Store.connect`."""
        await self.inner.connect()

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self.inner.aclose()

    def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Coroutine[Any, Any, Admission]:
        """See `Store.admit`. Returns the coroutine of the other store, so that this call adds none."""
        known = self._quotas
        for quota in quotas:
            if not quota.key.startswith(HIDDEN):
                known.pop(quota.key, None)
                known[quota.key] = quota
        while len(known) > REMEMBERED:
            del known[next(iter(known))]
        return self.inner.admit(quotas, tokens)

    def settle(self, reservation: Reservation, tokens: int) -> Awaitable[None] | None:
        """See `Store.settle`."""
        return self.inner.settle(reservation, tokens)

    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """See `Store.look`."""
        return await self.inner.look(quotas)

    def known(self, quotas: Sequence[Quota]) -> Coroutine[Any, Any, tuple[Level, ...]]:
        """See `Store.known`."""
        return self.inner.known(quotas)

    async def in_use(self) -> list[Limit]:
        """Return the counters above zero of the quotas that were asked about last, the fullest first.

        Returns an empty list while the store cannot be reached.
        """
        quotas = list(islice(reversed(self._quotas.values()), SHOWN))
        try:
            levels = await self.inner.look(quotas) if quotas else ()
        except StoreUnavailable:
            return []
        used = sorted((level for level in levels if level.used), key=_fullness, reverse=True)
        return [_limit(quotas[level.quota].key, level) for level in used]


def _fullness(level: Level) -> float:
    return level.used / level.amount


def _limit(key: str, level: Level) -> Limit:
    entry, _, rest = key.partition("/")
    name, _, whom = rest.partition("/")
    return Limit(
        limit=entry if name in ("default", "") else f"{entry} {name}",
        whom=unquote(whom),
        unit=level.unit,
        window=level.window.period if level.window is not None else None,
        used=level.used,
        amount=level.amount,
        resets_in=round(level.resets_in, 1),
    )
