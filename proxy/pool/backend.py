"""One backend: an Ollama host, what is known about it, and the requests that it runs."""

import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

import httpx

from proxy.kernel.asgi import Header
from proxy.pool.awaited_answer import AwaitedAnswer
from proxy.pool.busy_runners import BusyRunners
from proxy.pool.health import Health, Rules
from proxy.pool.moving_averages import MovingAverages, moved_average
from proxy.pool.parallel_runs import ParallelRunsByModel
from proxy.pool.reputation import Reputation
from proxy.pool.residency import Resident, ResidentModels
from proxy.upstream.transport import Transport

FAILURE_HALF_LIFE: Final = 10.0
"""Seconds after which a failure counts half as much as load. A failed request counts as a running one for about as long
as it would have run; otherwise a backend that fails fast would look idle and attract every request."""
NOTICEABLE: Final = 0.05
"""Failures whose load has faded below this number of requests count as none."""
COMPARED_FOR: Final = 300.0
"""Seconds after which a measured time is too old to compare backends by; the backend then gets requests and is measured
again."""
NOISE: Final = 1.25
"""A time to first byte within this factor of the mean counts as equal to it."""
SLOWEST: Final = 2.0
"""The largest factor by which slowness raises, or speed lowers, the load of a backend."""


Asking = Literal["room", "line"]
"""A question about permits of the fleet, see `Backend.free`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Backend:
    """One Ollama host.

    Attributes:
        name: its name in the policy file, logs and metrics.
        url: scheme, host and port.
        shown: the URL to print: as the policy file has it, with ``${NAME}`` where the environment filled it in.
        host: the Host header to send; Ollama on loopback refuses names that it does not know.
        headers: headers to add to every request, such as the backend's own Authorization.
        weight: its share of the work, relative to the other backends.
        slots: how many requests it may run at once, of all models together; None for no bound.
        slots_per_model: how many of each model; None where that is learned.
        model_slots: the same for single models, by canonical key; it goes before `slots_per_model`.
        version: the version of Ollama; None until it is known.
        models: entries of ``/api/tags`` by canonical key; None until they are known.
        changed_at: when a request through the proxy may have changed `models`; None once it was probed since.
        residency: the models in its memory, as far as known.
        running: entries of ``/api/ps``, unchanged.
        asked_at: when the latest successful probe was sent.
        seen_at: when a probe last succeeded; None before the first.
        parallel: the requests that hold a slot, by model, and how many of a model it runs at once, as was learned.
        busy_runners: how long a runner stays busy with a request whose client left.
        embedding: number of requests for embeddings that hold a slot, by model.
        active: number of requests that hold a slot.
        permits: how many may hold one, where the slots are shared with other proxies; None where they are not.
        contended: somebody waits for a slot at another proxy, so that a permit goes back with the end of its request.
        elsewhere: permits that other proxies held when they were last heard of.
        peak: the most that were `active` since the unused permits were last given back.
        leases: number of all requests that hold a lease, with or without a slot.
        awaited: the requests that wait for its first byte, the one that waits longest first.
        first_byte: moving average of the seconds to the first byte of a warm model.
        first_bytes: the same, by model.
        slowness: by model, time to first byte as a multiple of the mean of all backends; only where it is noticeable.
        last_error: the latest failure of a request, for the operator.
        place: the URL as text, by which all proxies know it.
        reputation: what callers saw fail here since it last served a request.
    """

    name: str
    url: httpx.URL
    transport: httpx.AsyncBaseTransport
    shown: str
    host: bytes
    headers: Sequence[Header] = ()
    weight: float = 1.0
    slots: int | None = None
    slots_per_model: int | None = None
    model_slots: Mapping[str, int] = field(default_factory=dict)
    health: Health = field(kw_only=True)
    version: str | None = None
    models: Mapping[str, Mapping[str, object]] | None = None
    changed_at: float | None = None
    residency: ResidentModels = field(default_factory=ResidentModels)
    running: Sequence[Mapping[str, object]] = ()
    asked_at: float = 0.0
    seen_at: float | None = None
    parallel: ParallelRunsByModel = field(default_factory=ParallelRunsByModel)
    busy_runners: BusyRunners = field(default_factory=BusyRunners)
    embedding: Counter[str] = field(default_factory=Counter)
    active: int = 0
    permits: int | None = None
    contended: bool = False
    elsewhere: int = 0
    peak: int = 0
    leases: int = 0
    awaited: dict[AwaitedAnswer, None] = field(default_factory=dict)
    first_byte: float | None = None
    first_bytes: MovingAverages = field(default_factory=lambda: MovingAverages(100))
    slowness: Mapping[str, float] = field(default_factory=dict)
    last_error: str | None = None
    reputation: Reputation = field(default_factory=Reputation)
    place: str = field(init=False)
    _failing: float = 0.0
    _failed_at: float = 0.0

    def __post_init__(self) -> None:
        self.place = str(self.url)
        self.health.came_back = self.reputation.forget  # old failures say nothing about a backend that is back

    @property
    def resident(self) -> Mapping[str, Resident]:
        """The models in its memory as far as known, by canonical key."""
        return self.residency.resident

    @property
    def loading(self) -> Counter[str]:
        """The models that it loads for requests of the proxy, and how many requests wait for each."""
        return self.residency.loading

    @property
    def active_by_model(self) -> Counter[str]:
        """Number of running requests, by model; of those that only load a model too."""
        return self.residency.users

    def has(self, model: str | None) -> bool | None:
        """Return whether it lists `model`; None where its list is unknown. True for no model."""
        if model is None:
            return True
        if self.models is None:
            return None
        return model in self.models or (None if self.changed_at is not None else False)

    @property
    def ejected(self) -> bool:
        """Whether requests failed so often that it gets none for a while."""
        return self.health.state == "ejected"

    @property
    def full(self) -> bool:
        """Whether all the slots are taken that it has, or that this proxy may use of them."""
        bound = self.slots if self.permits is None else self.permits
        return bound is not None and self.active >= bound

    def slot_taken(self) -> None:
        """Count a request that takes a slot."""
        self.active += 1
        if self.active > self.peak:
            self.peak = self.active

    def slot_freed(self) -> None:
        """Count the end of a request that had a slot. Its permit goes with it where somebody waits elsewhere."""
        self.active -= 1
        if self.contended and self.permits:
            self.permits -= 1

    def free(
        self,
        model: str | None,
        *,
        embeds: bool = False,
        queued: bool = False,
        trial: bool = False,
        asking: Asking | None = None,
    ) -> bool:
        """Return whether a slot is free for a request that runs `model`. A request that runs none needs no slot.

        Args:
            model: canonical key of the model; None where the request runs none.
            embeds: it asks for embeddings.
            queued: it waits in the queue where no slot is free, so that bounds hold that the policy file does not name.
            trial: it may be the one more by which the proxy finds out whether the backend runs more at once.
            asking: a permit of the fleet could be asked for: one that seems free (``room``), or any (``line``).
        """
        if model is None:
            return True
        if self.full if asking is None else not self.could_have(asking):
            return False
        bound = self.model_slots.get(model, self.slots_per_model) if self.model_slots else self.slots_per_model
        if bound is not None and self.residency.slots(model) >= bound:
            return False
        if not queued:
            return True
        if embeds and self.embedding[model] and self._embeds_in_turn(model):
            return False
        runs = self.parallel.of(model) if bound is None else None
        return runs is None or runs.room or (trial and runs.trial_due)

    def could_have(self, asking: Asking) -> bool:
        """Return whether one more request could have a slot, if the fleet permits it where slots are shared."""
        others = self.elsewhere if asking == "room" else 0
        return self.slots is None or self.active + others < self.slots

    def places(self, model: str | None) -> float:
        """Return how many more requests that run `model` would find a slot without a queue; inf for no bound."""
        if model is None:
            return inf
        bound = self.model_slots.get(model, self.slots_per_model)
        in_all = inf if self.slots is None else self.slots - self.active - self.elsewhere
        return min(in_all, inf if bound is None else bound - self.residency.slots(model))

    def at_once(self, model: str, *, embeds: bool = False) -> int | None:
        """Return how many requests for `model` that wait in the queue may run at once; None for no bound."""
        bound = self.model_slots.get(model, self.slots_per_model)
        if bound is None and (runs := self.parallel.of(model)) is not None:
            bound = runs.limit
        bounds = [self.slots, bound, 1 if embeds and self._embeds_in_turn(model) else None]
        return min((bound for bound in bounds if bound is not None), default=None)

    def trial_due(self, model: str) -> bool:
        """Return whether one request more than was learned may be sent for `model`."""
        runs = self.parallel.of(model)
        return runs is not None and runs.trial_due

    def _embeds_in_turn(self, model: str) -> bool:
        """Return whether it makes embeddings one request at a time, as Ollama does whatever its settings say."""
        return self.version is not None and model not in self.model_slots

    @property
    def heard(self) -> float:
        """The loop's time at which it was heard last; -inf where that is unknown."""
        return self.transport.heard if isinstance(self.transport, Transport) else -inf

    def room(self, now: float) -> float:
        """Return its share of the work now: its weight, reduced while it comes back."""
        return self.weight * self.health.share(now)

    def busy(self, now: float) -> float:
        """Return the number of running requests plus the recent failures, faded by age."""
        if not self._failing:
            return self.active
        failing: float = self._failing * 0.5 ** ((now - self._failed_at) / FAILURE_HALF_LIFE)
        if failing < NOTICEABLE:
            self._failing = 0.0
        return self.active + failing

    # Learning

    def failed(self, now: float) -> None:
        """Count a request that failed, or that was refused because the backend was busy, as load."""
        self._failing = self.busy(now) - self.active + 1.0
        self._failed_at = now

    def lacks(self, model: str) -> None:
        """Note that the backend said it does not have `model`."""
        if self.models is not None and model in self.models:
            self.models = {key: entry for key, entry in self.models.items() if key != model}
        self.residency.lost(model)

    def waited(self, model: str, seconds: float, now: float) -> None:
        """Note that the first byte of `model`, which was warm, took `seconds`."""
        self.first_byte = moved_average(self.first_byte, seconds)
        self.first_bytes.note(model, seconds, now)

    def describe_anew(self, other: "Backend") -> None:
        """Take the options of the policy file from `other`, which is the same host; keep all that is known of it."""
        self.shown, self.headers, self.weight = other.shown, other.headers, other.weight
        self.slots, self.slots_per_model, self.model_slots = other.slots, other.slots_per_model, other.model_slots

    def __repr__(self) -> str:
        bound = "" if self.slots is None else f" of {self.slots}"
        return (
            f"<Backend {self.name} {self.health.shown} ({self.health.reason}), {self.active}{bound} active, "
            f"{self.leases} in flight, last error: {self.last_error}>"
        )


def compare(backends: Sequence[Backend], now: float) -> None:
    """Set `Backend.slowness` of every backend, from the recent times to first byte, model by model."""
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
    slots_per_model: int | None = None,
    model_slots: Mapping[str, int] | None = None,
    rules: Rules,
) -> Backend:
    """Return a backend, with a new transport unless `transport` is given.

    `url` has no path. `uds` is the path of the unix socket to connect to instead of the URL's host.
    """
    parsed = httpx.URL(url)
    return Backend(
        name=name,
        url=parsed,
        transport=transport or Transport(parsed, tls=tls, server_name=server_name, uds=uds),
        shown=shown or url,
        host=parsed.netloc,
        headers=headers,
        weight=weight,
        slots=slots,
        slots_per_model=slots_per_model,
        model_slots=model_slots or {},
        health=Health(rules),
    )
