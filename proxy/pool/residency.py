"""What one host has in its memory, as far as is known: seen in ``/api/ps``, or believed since a request of ours."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from proxy.pool.request_needs import Setup

Residency = Literal["loaded", "loading", "cold"]


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in the memory of a host, as ``/api/ps`` tells it.

    Attributes:
        vram: bytes.
        context_length: tokens it was loaded for, None where the host does not say.
    """

    vram: int = 0
    context_length: int | None = None


class ResidentModels:
    """The models in the memory of one host, by canonical key.

    How much it holds is learned from what it was seen to hold: where a host threw something out before, there is room
    for one more while that makes neither more models nor more bytes than it ever held. Before, there is always room.

    Attributes:
        resident: what is there.
        loading: requests that make it load a model.
        users: requests that run, by model.
    """

    __slots__ = ("_arrived", "_full", "_most", "_most_bytes", "_setups", "_sizes", "_used_at", "loading", "resident",
                 "users")  # fmt: skip

    def __init__(self) -> None:
        self.resident: dict[str, Resident] = {}
        self.loading: Counter[str] = Counter()
        self.users: Counter[str] = Counter()
        self._setups: dict[str, Setup] = {}  # what our request that had each loaded asked for
        self._used_at: dict[str, float] = {}
        self._arrived: set[str] = set()  # by requests of ours since it was looked at
        self._sizes: dict[str, int] = {}
        self._full = False  # it threw something out to make room
        self._most = 0
        self._most_bytes = 0

    def state(self, model: str, setup: Setup = ()) -> Residency:
        """Return how far `model` is, for a request that wants it set up like this.

        One that is there with other options is as good as none: Ollama throws it out and loads it again.
        """
        resident = self.resident.get(model)
        if resident is not None:
            return "loaded" if self._is_set_up(model, resident, setup) else "cold"
        return "loading" if model in self.loading and self._setups.get(model, ()) == setup else "cold"

    def victim(self, model: str) -> str | None:
        """Return what loading `model` would throw out, None where there is room.

        That is the model itself where it is there already, in another setup.
        """
        if model in self.resident:
            return model
        if not self._full or self._fits(model):
            return None
        return min(self.resident, key=self.idle_since, default=None)

    def idle_since(self, model: str) -> float:
        """Return when `model` was used last: inf while it is in use, 0 where no request of ours ever used it."""
        return inf if model in self.users else self._used_at.get(model, 0.0)

    # What requests of ours do

    def began(self, model: str, setup: Setup, now: float) -> None:
        """A request for `model` was sent."""
        self.users[model] += 1
        resident = self.resident.get(model)
        if resident is not None and not self._is_set_up(model, resident, setup):
            del self.resident[model]
            resident = None
        if resident is None:
            self.loading[model] += 1
            self._setups[model] = setup
        self._used_at[model] = now

    def answered(self, model: str) -> None:
        """The first byte for `model` came: it is there, and what had to make room for it is not."""
        self.loading.pop(model, None)
        if model in self.resident:
            return
        while self._full and self.resident and not self._fits(model):
            oldest = min(self.resident, key=self.idle_since)
            if oldest in self.users:
                break
            del self.resident[oldest]
        self.resident[model] = Resident(self._sizes.get(model, 0))
        self._arrived.add(model)

    def ended(self, model: str, now: float) -> None:
        """A request for `model` is over, answered or not."""
        self.users[model] -= 1
        if self.users[model] <= 0:
            del self.users[model]
            self.loading.pop(model, None)
        if model in self.resident:
            self._used_at[model] = now
        elif model not in self.users:  # it never came to be there: clients name what they like
            self._forget(model)

    def lost(self, model: str) -> None:
        """The host said that it does not have `model`."""
        self.resident.pop(model, None)

    def clear(self) -> None:
        """The host is gone, and its memory with it; another one may come back in its place."""
        self.resident.clear()
        self._full, self._most, self._most_bytes = False, 0, 0

    # What the host says

    def saw(self, running: Mapping[str, Resident]) -> None:
        """``/api/ps`` says what is there now; what went while something else came, made room for it."""
        before = self.resident
        gone, came = before.keys() - running.keys(), running.keys() & (self._arrived | (running.keys() - before.keys()))
        self._full |= bool(running and gone and (came or self.loading))
        self._most = max(self._most, len(running))
        self._most_bytes = max(self._most_bytes, sum(entry.vram for entry in running.values()))
        self._arrived.clear()
        # What we use now is there: the question may be older than the answer to a request.
        self.resident = {**{model: entry for model, entry in before.items() if model in self.users}, **running}
        for model in gone - self.resident.keys():
            self._forget(model)
        for model, entry in running.items():
            self._sizes[model] = entry.vram
            known = before[model].context_length if model in before else None
            if known is not None and known != entry.context_length:
                self._setups.pop(model, None)  # somebody else had it loaded anew

    # Details

    def _is_set_up(self, model: str, resident: Resident, setup: Setup) -> bool:
        before = self._setups.get(model)
        if setup == before:
            return True
        spelled_out: Setup = (("num_ctx", resident.context_length or 0),)
        if setup == spelled_out:
            return not before  # it is what the host has as its default
        return before is None and not setup

    def _fits(self, model: str) -> bool:
        """Whether there is room for `model` beside what is there and what is on its way."""
        held = {*self.resident, *self.loading, model}
        return len(held) <= self._most and sum(self._sizes.get(one, 0) for one in held) <= self._most_bytes

    def _forget(self, model: str) -> None:
        self._used_at.pop(model, None)
        self._setups.pop(model, None)
