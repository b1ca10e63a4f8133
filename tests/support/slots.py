"""Slots without backends: a test takes them and gives them back."""

from collections.abc import Callable, Hashable

from proxy.kernel.exchange import Exchange
from proxy.kernel.slot_scheduling import Slots


class Slot:
    """A slot that is held."""

    def __init__(self, slots: "FakeSlots", exchange: Exchange) -> None:
        self.slots = slots
        self.exchange = exchange
        self.held = True

    def give_back(self) -> None:
        assert self.held, "given back twice"
        self.held = False
        self.slots.held.remove(self)
        self.slots.changed()


class FakeSlots(Slots):
    """So many slots for every model, fewer for some.

    Attributes:
        only: slots of single models, by short name.
        held: who has one.
        asked: who asked, the latest last, with how many it was said to wait.
        places: the backends for which a permit of all proxies is wanted.
        broken: raised for those who ask for the model of that name.
    """

    def __init__(self, count: int = 1, **only: int) -> None:
        self.count = count
        self.only = only
        self.held: list[Slot] = []
        self.asked: list[tuple[Exchange, int]] = []
        self.broken: dict[str, Exception] = {}
        self.seconds: float | None = None
        self.places: tuple[str, ...] = ()
        self._callbacks: list[Callable[[], None]] = []

    async def settled(self, exchange: Exchange) -> None:
        pass

    def try_lease(self, exchange: Exchange, *, waiting: int = 0) -> Slot | str:
        self.asked.append((exchange, waiting))
        model = self._model(exchange)
        if model in self.broken:
            raise self.broken[model]
        mine = sum(self._model(slot.exchange) == model for slot in self.held)
        if len(self.held) >= self.count or mine >= self.only.get(model, self.count):
            return "slots"
        slot = Slot(self, exchange)
        self.held.append(slot)
        return slot

    def wanted(self, exchange: Exchange) -> tuple[str, ...]:
        return self.places

    def any_free(self, *, if_asked: bool = False) -> bool:
        return len(self.held) < self.count

    def lane(self, exchange: Exchange) -> Hashable:
        return self._model(exchange)

    def on_free(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def service_time(self, exchange: Exchange) -> float | None:
        return self.seconds

    def capacity(self, exchange: Exchange) -> int | None:
        return self.count

    def changed(self) -> None:
        for callback in self._callbacks:
            callback()

    @staticmethod
    def _model(exchange: Exchange) -> str:
        return exchange.model.short.removesuffix(":latest") if exchange.model is not None else ""
