"""Residency: which models a backend has in its memory, as seen in ``/api/ps`` or inferred from our requests."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from proxy.pool.request_needs import Setup

Residency = Literal["loaded", "loading", "cold"]


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory, as ``/api/ps`` describes it.

    Attributes:
        vram: bytes of GPU memory.
        context_length: tokens of context that it was loaded for, None where the backend does not say.
    """

    vram: int = 0
    context_length: int | None = None


class ResidentModels:
    """The models in the memory of one backend, by canonical key.

    The size of the memory is learned from what it held. Once the backend evicted a model, there is room for another one
    only while that makes neither more models nor more bytes than it ever held at once. Until then there is always room.

    Attributes:
        resident: the models in memory.
        loading: number of requests that wait for a model to be loaded, by model.
        users: number of running requests, by model.
        loaders: number of those of them that only load the model, and take no slot.
    """

    __slots__ = ("_arrived", "_full", "_most", "_most_bytes", "_setups", "_sizes", "_trained", "_unloaded", "_used_at",
                 "loaders", "loading", "resident", "users")  # fmt: skip

    def __init__(self) -> None:
        self.resident: dict[str, Resident] = {}
        self.loading: Counter[str] = Counter()
        self.users: Counter[str] = Counter()
        self.loaders: Counter[str] = Counter()
        self._setups: dict[str, Setup] = {}  # the options of the request that had each model loaded
        self._trained: dict[str, int] = {}  # the context that each model was trained with, where a load has shown it
        self._used_at: dict[str, float] = {}
        self._arrived: set[str] = set()  # loaded by our requests since the last probe
        self._unloaded: set[str] = set()  # they leave the memory when their last request has ended
        self._sizes: dict[str, int] = {}
        self._full = False  # it evicted a model to make room
        self._most = 0
        self._most_bytes = 0

    def state(self, model: str, setup: Setup = ()) -> Residency:
        """Return whether `model` is loaded, loading or cold, for a request with the runner options `setup`.

        A model that is in memory with other options is cold: Ollama evicts it and loads it again.
        """
        resident = self.resident.get(model)
        if resident is not None:
            return "loaded" if self._is_set_up(model, resident, setup) else "cold"
        return "loading" if model in self.loading and self._setups.get(model, ()) == setup else "cold"

    def victim(self, model: str) -> str | None:
        """Return the model that would be evicted to load `model`, None where there is room.

        That is `model` itself where it is in memory with other options.
        """
        if model in self.resident:
            return model
        if not self._full or self._fits(model):
            return None
        return min(self.resident, key=self.idle_since, default=None)

    def slots(self, model: str) -> int:
        """Return how many running requests hold a slot of `model`."""
        return self.users[model] - self.loaders[model]

    def idle_since(self, model: str) -> float:
        """Return when `model` was used last: inf while it is in use, 0 where none of our requests ever used it."""
        return inf if model in self.users else self._used_at.get(model, 0.0)

    # Learning from our requests

    def began(self, model: str, setup: Setup, now: float, *, slot: bool = True) -> Residency:
        """Note that a request for `model` is sent, which holds a slot or only loads it; return its `state` before."""
        state = self.state(model, setup)
        self.users[model] += 1
        if not slot:
            self.loaders[model] += 1
        if state != "loaded":
            self.resident.pop(model, None)
            self.loading[model] += 1
            self._setups[model] = setup
        self._used_at[model] = now
        return state

    def answered(self, model: str) -> None:
        """Note the first byte of a response by `model`: it is in memory, and what had to make room for it is not."""
        self.loading.pop(model, None)
        if model in self.resident:
            return
        while self._full and self.resident and not self._fits(model):
            oldest = min(self.resident, key=self.idle_since)
            if oldest in self.users:
                break
            del self.resident[oldest]
            self._forget(oldest)
        self.resident[model] = Resident(self._sizes.get(model, 0))
        self._arrived.add(model)

    def ended(self, model: str, now: float, *, slot: bool = True) -> None:
        """Note that a request for `model` is over, answered or not."""
        self.users[model] -= 1
        if not slot:
            self.loaders[model] -= 1
        if self.users[model] <= 0:
            del self.users[model]
            self.loaders.pop(model, None)
            self.loading.pop(model, None)
            if model in self._unloaded:
                self.unloaded(model)
        if model in self.resident:
            self._used_at[model] = now
        elif model not in self.users:  # it was never loaded: clients can name anything
            self._forget(model)

    def unloaded(self, model: str) -> None:
        """Note that the backend was told to unload `model`: it does so when no request uses the model any more."""
        if model in self.users:
            self._unloaded.add(model)
        else:
            self._unloaded.discard(model)
            self.resident.pop(model, None)
            self._forget(model)

    def lost(self, model: str) -> None:
        """Note that the backend said it does not have `model`."""
        self.resident.pop(model, None)

    def clear(self) -> None:
        """Note that the backend is down: its memory is empty, and another machine may come back in its place."""
        self.resident.clear()
        self._full, self._most, self._most_bytes = False, 0, 0

    # Learning from probes

    def saw(self, running: Mapping[str, Resident]) -> None:
        """Note the models in ``/api/ps``. A model that went while another one came was evicted for it."""
        before = self.resident
        gone, came = before.keys() - running.keys(), running.keys() & (self._arrived | (running.keys() - before.keys()))
        self._full |= bool(running and gone and (came or self.loading))
        self._most = max(self._most, len(running))
        self._most_bytes = max(self._most_bytes, sum(entry.vram for entry in running.values()))
        self._arrived.clear()
        # Keep the models in use: the probe may be older than the first byte of a response.
        self.resident = {**{model: entry for model, entry in before.items() if model in self.users}, **running}
        for model in gone - self.resident.keys():
            self._forget(model)
        self._unloaded &= self.users.keys()
        for model, entry in running.items():
            self._sizes[model] = entry.vram
            known = before[model].context_length if model in before else None
            if known is not None and known != entry.context_length:
                self._setups.pop(model, None)  # another client had it loaded again
            self._learn_trained(model, entry.context_length)

    # Details

    def _is_set_up(self, model: str, resident: Resident, setup: Setup) -> bool:
        """Return whether `model`, which is in memory, was loaded with the options `setup`."""
        before = self._setups.get(model, ())
        if setup == before:
            return True
        wanted, loaded = dict(setup), dict(before)
        if "num_gpu" not in wanted:
            loaded.pop("num_gpu", None)  # the request leaves it to Ollama, which leaves it as it is
        asked, had = wanted.pop("num_ctx", None), loaded.pop("num_ctx", None)
        if wanted != loaded:
            return False
        if asked is None:
            return had is None
        if had is None:
            return self._cut(model, asked) == resident.context_length  # the request names the backend's default
        return self._cut(model, asked) == self._cut(model, had)

    def _cut(self, model: str, context: float) -> float:
        """Return the context that Ollama loads `model` with: at most the one that the model was trained with."""
        return min(context, self._trained.get(model, inf))

    def _learn_trained(self, model: str, context: int | None) -> None:
        """Learn the context that `model` was trained with, from a load that asked for more than it got."""
        asked = dict(self._setups.get(model, ())).get("num_ctx")
        if context is None:
            return
        if asked is not None and context < asked:
            self._trained[model] = context
        elif context > self._trained.get(model, inf):  # the model has been replaced
            del self._trained[model]

    def _fits(self, model: str) -> bool:
        """Return whether `model` has room beside the models in memory and those that are being loaded."""
        held = {*self.resident, *self.loading, model}
        return len(held) <= self._most and sum(self._sizes.get(one, 0) for one in held) <= self._most_bytes

    def _forget(self, model: str) -> None:
        self._used_at.pop(model, None)
        self._setups.pop(model, None)
