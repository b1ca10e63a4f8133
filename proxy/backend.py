"""One Ollama host: who it is, what it was seen to have, and what it does for us now."""

import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from proxy.asgi import Header
from proxy.health import Health, Rules
from proxy.transport import Transport

FAILURE_WEIGHT: Final = 0.5
"""Load that one recent failure counts as: a host that fails fast must not look idle and draw everything to it."""
TREND: Final = 0.2
"""How much of a moving average one new value is."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in the memory of a backend, as ``/api/ps`` tells it.

    Attributes:
        vram: bytes.
        context_length: tokens it was loaded for, None where the backend does not say.
    """

    vram: int = 0
    context_length: int | None = None


@dataclass(slots=True, eq=False)
class Backend:
    """One Ollama host.

    Attributes:
        shown: its URL for prints; the policy file's own words where that came from the environment.
        host: what it is sent as Host; Ollama on loopback refuses names it does not know.
        headers: added to every request, for example the backend's own Authorization.
        slots: requests it runs at once; None for no bound. `model_slots` bounds single models (canonical key).
        version: of Ollama; None before it said.
        models: what it lists, by canonical key, as it listed it; None before it was asked.
        resident: what is in its memory as far as is known, by canonical key: seen, or believed since we sent a request.
        loading: models that a request of ours is making it load.
        used_at: when each model was used last, by our requests.
        seen_at: when it answered last.
        active: leases out, in all and by model.
        first_byte: trend of the seconds until a warm model's first byte.
    """

    name: str
    url: httpx.URL
    transport: httpx.AsyncBaseTransport
    shown: str
    host: bytes
    headers: Sequence[Header] = ()
    weight: float = 1.0
    slots: int | None = None
    model_slots: Mapping[str, int] = field(default_factory=dict)
    health: Health = field(default_factory=lambda: Health(Rules()))
    version: str | None = None
    models: Mapping[str, Mapping[str, object]] | None = None
    resident: dict[str, Resident] = field(default_factory=dict)
    running: Sequence[Mapping[str, object]] = ()
    """What it listed in ``/api/ps``, as it listed it."""
    loading: Counter[str] = field(default_factory=Counter)
    used_at: dict[str, float] = field(default_factory=dict)
    seen_at: float | None = None
    active: int = 0
    active_by_model: Counter[str] = field(default_factory=Counter)
    arrived: set[str] = field(default_factory=set)
    """Models that came into memory by requests of ours since it was asked last."""
    room: int | None = None
    """Models it can hold at once, as learned from what it threw out; None while it never threw one out."""
    first_byte: float | None = None
    last_error: str | None = None

    def has(self, model: str | None) -> bool | None:
        """Whether it lists `model`; None where its list is not known. No model is had by everybody."""
        if model is None:
            return True
        return None if self.models is None else model in self.models

    def free(self, model: str | None) -> bool:
        """Whether a slot is free for a request for `model`."""
        if self.slots is not None and self.active >= self.slots:
            return False
        if model is None or model not in self.model_slots:
            return True
        return self.active_by_model[model] < self.model_slots[model]

    def load(self, now: float) -> float:
        """What it does for us now, for its weight and the share of it that it gets."""
        busy = self.active + FAILURE_WEIGHT * self.health.failures
        return busy / (self.weight * self.health.share(now))

    def victim(self) -> float:
        """When the model that a load would throw out was used last; -inf where there is room for one more."""
        held = {*self.resident, *(model for model, count in self.loading.items() if count)}
        if self.room is None or len(held) < self.room:
            return float("-inf")
        return min((self.used_at.get(model, 0.0) for model in held), default=float("-inf"))

    # What is learned

    def forget(self, model: str) -> None:
        """It said that it does not have `model`."""
        if self.models is not None and model in self.models:
            self.models = {key: entry for key, entry in self.models.items() if key != model}
        self.resident.pop(model, None)

    def began(self, model: str, now: float) -> None:
        """A request for `model` was sent."""
        self.active_by_model[model] += 1
        self.used_at[model] = now
        if model not in self.resident:
            self.loading[model] += 1

    def answered(self, model: str) -> None:
        """The first byte for `model` came: it is in memory, and what had to make room for it is not."""
        if model in self.resident:
            return
        self.resident[model] = Resident()
        self.arrived.add(model)
        del self.loading[model]
        if self.room is not None:
            while len(self.resident) > self.room:
                oldest = min(
                    (other for other in self.resident if other != model),
                    key=lambda other: self.used_at.get(other, 0.0),
                    default=None,
                )
                if oldest is None:
                    break
                del self.resident[oldest]

    def ended(self, model: str) -> None:
        """A request for `model` is over, answered or not."""
        self.active_by_model[model] -= 1
        if self.active_by_model[model] <= 0:
            del self.active_by_model[model]
            self.loading.pop(model, None)

    def saw_running(self, running: Mapping[str, Resident]) -> None:
        """``/api/ps`` says what is in memory now; what went while something else came, made room for it."""
        gone, came = self.resident.keys() - running.keys(), running.keys() - self.resident.keys() | self.arrived
        self.arrived = set()
        if (running and gone and (came & running.keys() or any(self.loading.values()))) or (
            self.room is not None and len(running) > self.room
        ):
            self.room = len(running)
        kept = {model: Resident() for model in self.resident if model in self.active_by_model}
        self.resident = {**kept, **running}

    def waited(self, seconds: float) -> None:
        """A warm model's first byte took `seconds`."""
        before = self.first_byte
        self.first_byte = seconds if before is None else before + TREND * (seconds - before)

    def __repr__(self) -> str:
        bound = "" if self.slots is None else f" of {self.slots}"
        return f"<Backend {self.name} {self.health.shown}, {self.active}{bound} active, last error: {self.last_error}>"


def make_backend(
    name: str,
    url: str,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    uds: str | None = None,
    shown: str | None = None,
    headers: Sequence[Header] = (),
    weight: float = 1.0,
    slots: int | None = None,
    model_slots: Mapping[str, int] | None = None,
    rules: Rules | None = None,
) -> Backend:
    """Return a backend with a transport of its own. `url` has no path; `uds` is the socket that leads there instead."""
    parsed = httpx.URL(url)
    return Backend(
        name,
        parsed,
        Transport(parsed, tls=tls, server_name=server_name, uds=uds),
        shown or url,
        parsed.netloc,
        headers,
        weight,
        slots,
        model_slots or {},
        Health(rules or Rules()),
    )
