"""One Ollama host: who it is, what it was seen to have, and what it does for us now."""

import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from proxy.kernel.asgi import Header
from proxy.pool.averages import Trends, moved
from proxy.pool.health import Health, Rules
from proxy.pool.reputation import Reputation
from proxy.pool.residency import Memory, Resident
from proxy.upstream.transport import Transport

FAILURE_HALF_LIFE: Final = 10.0
"""Seconds in which a failure counts half as much as load. A failed request counts as one that runs, about as long as it
would have run: a host that fails fast must not look idle and draw everything to it."""
NOTICEABLE: Final = 0.05
"""Failures that count less than this count nothing."""
COMPARED_FOR: Final = 300.0
"""Seconds after which a measurement is too old to be held against a backend: it is given a chance to be measured."""
NOISE: Final = 1.25
"""First bytes that take up to so many times as long as the others' are as fast as them."""
SLOWEST: Final = 2.0
"""The most that a slow backend's load is multiplied by, and a fast one's divided."""


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
        changed_at: when something was last changed there through us, so that `models` may not be right any more; None
            when it was asked since.
        memory: what is in its memory as far as is known.
        running: what it listed in ``/api/ps``, as it listed it.
        asked_at: when it was asked what it answered last; `seen_at` when it answered.
        active: requests that hold a slot.
        leases: all requests it has of us.
        first_byte: trend of the seconds until a warm model's first byte; `first_bytes` the same by model.
        reputation: what callers have seen of it.
        slowness: by model, how many times as long as on the others its first byte takes, where that is noticeable.
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
    health: Health = field(kw_only=True)
    version: str | None = None
    models: Mapping[str, Mapping[str, object]] | None = None
    changed_at: float | None = None
    memory: Memory = field(default_factory=Memory)
    running: Sequence[Mapping[str, object]] = ()
    asked_at: float = 0.0
    seen_at: float | None = None
    active: int = 0
    leases: int = 0
    first_byte: float | None = None
    first_bytes: Trends = field(default_factory=lambda: Trends(100))
    slowness: Mapping[str, float] = field(default_factory=dict)
    last_error: str | None = None
    reputation: Reputation = field(default_factory=Reputation)
    _failing: float = 0.0
    _failed_at: float = 0.0

    def __post_init__(self) -> None:
        self.health.came_back = self.reputation.forget  # what was said before is no news of a host that is back

    @property
    def resident(self) -> Mapping[str, Resident]:
        """What is in its memory as far as is known, by canonical key."""
        return self.memory.resident

    @property
    def loading(self) -> Counter[str]:
        """Models that requests of ours are making it load, with how many requests wait for each."""
        return self.memory.loading

    @property
    def active_by_model(self) -> Counter[str]:
        """Requests that hold a slot, by model."""
        return self.memory.users

    def has(self, model: str | None) -> bool | None:
        """Whether it lists `model`; None where its list is not known. No model is had by everybody."""
        if model is None:
            return True
        if self.models is None:
            return None
        return model in self.models or (None if self.changed_at is not None else False)

    def free(self, model: str | None) -> bool:
        """Whether a slot is free for a request that runs `model`; one that runs none needs no slot."""
        if model is None:
            return True
        if self.slots is not None and self.active >= self.slots:
            return False
        bound = self.model_slots.get(model) if self.model_slots else None
        return bound is None or self.memory.users[model] < bound

    def room(self, now: float) -> float:
        """What it is given now compared to the others: its weight, less while it is coming back."""
        return self.weight * self.health.share(now)

    def busy(self, now: float) -> float:
        """The requests that it runs, and those that failed lately."""
        if not self._failing:
            return self.active
        failing: float = self._failing * 0.5 ** ((now - self._failed_at) / FAILURE_HALF_LIFE)
        if failing < NOTICEABLE:
            self._failing = 0.0
        return self.active + failing

    # What is learned

    def failed(self, now: float) -> None:
        """It failed a request, or was too busy for it."""
        self._failing = self.busy(now) - self.active + 1.0
        self._failed_at = now

    def lacks(self, model: str) -> None:
        """It said that it does not have `model`."""
        if self.models is not None and model in self.models:
            self.models = {key: entry for key, entry in self.models.items() if key != model}
        self.memory.lost(model)

    def waited(self, model: str, seconds: float, now: float) -> None:
        """The first byte of `model`, which was warm, took `seconds`."""
        self.first_byte = moved(self.first_byte, seconds)
        self.first_bytes.note(model, seconds, now)

    def describe_anew(self, other: "Backend") -> None:
        """Take over the words of the policy file from `other`, which is the same host; what is known of it stays."""
        self.shown, self.headers, self.weight = other.shown, other.headers, other.weight
        self.slots, self.model_slots = other.slots, other.model_slots

    def __repr__(self) -> str:
        bound = "" if self.slots is None else f" of {self.slots}"
        return f"<Backend {self.name} {self.health.shown}, {self.active}{bound} active, last error: {self.last_error}>"


def compare(backends: Sequence[Backend], now: float) -> None:
    """Note for every backend how slow it is compared to the others, model by model."""
    measured = {backend: dict(backend.first_bytes.since(now - COMPARED_FOR)) for backend in backends}
    times: dict[str, list[float]] = {}
    for seconds in measured.values():
        for model, value in seconds.items():
            times.setdefault(model, []).append(value)
    for backend, seconds in measured.items():
        ratios = {model: value * len(times[model]) / (sum(times[model]) or 1.0) for model, value in seconds.items()}
        backend.slowness = {
            model: min(SLOWEST, max(1 / SLOWEST, ratio))
            for model, ratio in ratios.items()
            if len(times[model]) > 1 and not 1 / NOISE <= ratio <= NOISE
        }


def make_backend(
    name: str,
    url: str,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    uds: str | None = None,
    shown: str | None = None,
    headers: Sequence[Header] = (),
    weight: float = 1.0,
    slots: int | None = None,
    model_slots: Mapping[str, int] | None = None,
    rules: Rules,
) -> Backend:
    """Return a backend, with a transport of its own if it is given none.

    `url` has no path; `uds` is the socket that leads there instead.
    """
    parsed = httpx.URL(url)
    return Backend(
        name,
        parsed,
        transport or Transport(parsed, tls=tls, server_name=server_name, uds=uds),
        shown or url,
        parsed.netloc,
        headers,
        weight,
        slots,
        model_slots or {},
        health=Health(rules),
    )
