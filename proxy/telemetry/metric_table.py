"""The table of metrics: their names, labels and meaning.

The metrics are made from it, and so is the reference page; nothing is exposed that is not in it. Names that begin with
``gen_ai_`` are those of OpenTelemetry's conventions for generative AI, written as its exporters write them for
Prometheus; their buckets are the conventions' own, carried on to what a model on a slow host takes.
"""

from dataclasses import dataclass
from typing import Final, Literal

OTHER: Final = "other"
"""The label value for all values beyond the bound of a label, and for models that no backend has."""

MODELS: Final = 200
"""Models that have series of their own."""
TENANTS: Final = 500
"""Tenants that have series of their own."""
SETS: Final = 2000
"""Sets of label values that have series of their own in a counter."""
SPREAD: Final = 200
"""The same for a histogram, which has a series for each bucket."""

MODEL: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_OUTSIDE: Final = frozenset({"model", "tenant", "gen_ai_request_model", "code", "error_type"})
"""Labels whose values come from outside of the policy file; their values are folded where there are too many."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One metric.

    Attributes:
        name: as Prometheus sees it, ``_total`` of a counter included.
        kind: its type.
        help: one sentence, with the unit where the name does not say it.
        labels: their names, in the order of the values.
        buckets: upper bounds of a histogram's, without the last one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def outside(self) -> tuple[int, ...]:
        """Return the labels whose values come from outside."""
        return tuple(number for number, label in enumerate(self.labels) if label in _OUTSIDE)

    @property
    def limit(self) -> int:
        """Return the number of label sets that have series of their own."""
        return SPREAD if self.kind == "histogram" else SETS


_DURATION: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
    1310.72, 2621.44,
)  # fmt: skip
_FIRST_TOKEN: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
)  # fmt: skip
_PER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS: Final = tuple(float(4**power) for power in range(14))
_WAIT: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

# Requests, counted by the plugin `metrics` when they are over.

REQUESTS: Final = Meter(
    "ollama_proxy_requests_total",
    "counter",
    "Requests that are over, by the route's class and path, the model, the backend tried last, the caller's tenant, "
    "the outcome, and the class of the status (`none` where the client left before it).",
    ("class", "route", "model", "backend", "tenant", "outcome", "status"),
)
DURATION: Final = Meter(
    "ollama_proxy_request_duration_seconds", "histogram", "Time from a request to its end.", ("class",), _DURATION
)
QUEUE_WAIT: Final = Meter(
    "ollama_proxy_queue_wait_seconds",
    "histogram",
    "Time that requests waited for a slot, of all that came to the queue.",
    ("tenant",),
    _WAIT,
)
OVERHEAD: Final = Meter(
    "ollama_proxy_overhead_seconds",
    "histogram",
    "What the proxy itself took before a request went out: the time from its head to its first attempt at a backend, "
    "without the wait for its body and for a slot. What plugins wait for (a store, an identity provider) is in it.",
    (),
    _OVERHEAD,
)
RECEIVED: Final = Meter("ollama_proxy_received_bytes_total", "counter", "Bytes of request bodies.")
SENT: Final = Meter("ollama_proxy_sent_bytes_total", "counter", "Bytes of response bodies.")
CHUNKS: Final = Meter("ollama_proxy_sent_chunks_total", "counter", "Chunks sent to clients.")
TOKENS: Final = Meter(
    "ollama_proxy_tokens_total",
    "counter",
    "Tokens, `in` (prompts) and `out` (generated), as `reported` by the backend or `estimated` from the chunks of an "
    "answer that broke off, or lacks its end.",
    ("direction", "source", "model", "tenant"),
)
WASTED_TOKENS: Final = Meter(
    "ollama_proxy_wasted_tokens_total",
    "counter",
    "Tokens generated for clients that left before the end of their answer.",
    ("model", "tenant"),
)
WASTED_SECONDS: Final = Meter(
    "ollama_proxy_wasted_seconds_total",
    "counter",
    "Time that a slot was held for clients that left before the end of their answer, also where no token came.",
    ("backend",),
)
REFUSED: Final = Meter(
    "ollama_proxy_refused_total",
    "counter",
    "Requests refused, by the plugin's name in the policy file (empty: the proxy itself) and the error's code.",
    ("plugin", "code"),
)
NOT_LET_IN: Final = Meter(
    "ollama_proxy_auth_failures_total",
    "counter",
    "Callers who were not let in, by the kind of credential (`key`, `jwt`, `opaque`, `signature`, `certificate`, "
    "`malformed`, `none`) and why (`missing`, `malformed`, `unknown`, `expired`, `disabled`, `replayed`, "
    "`not_accepted`, `forbidden`, `unavailable`, `too_many`: the address sent too many wrong ones).",
    ("credential", "reason"),
)
HTTP_REFUSED: Final = Meter(
    "ollama_proxy_http_refused_total",
    "counter",
    "Requests that no plugin saw, or saw whole, because what came was not plain HTTP/1.1, too much or too slow, or was "
    "sent by a page that may not; by the error's code.",
    ("code",),
)
CONNECTIONS_REFUSED: Final = Meter(
    "ollama_proxy_connections_refused_total",
    "counter",
    "Connections that were not taken, or not kept. `address`: its address has as many as it may; `total`: there are as "
    "many as there may be; `files`: no file is left; `idle`: closed to make room; `handshake`: its TLS handshake was "
    "not done while others waited for its place, or could not begin in time; `tls`: its handshake failed.",
    ("reason",),
)
RETRIES: Final = Meter(
    "ollama_proxy_retries_total", "counter", "Further attempts, by the backend they went to.", ("backend",)
)
GIVEN_UP: Final = Meter(
    "ollama_proxy_retries_given_up_total",
    "counter",
    "Failed requests that were not tried again, by what stood against it.",
    ("reason",),
)
FAILURES: Final = Meter(
    "ollama_proxy_attempt_failures_total",
    "counter",
    "Attempts that failed, those that a retry made good included, by backend and the error's code.",
    ("backend", "code"),
)
UNTERMINATED: Final = Meter(
    "ollama_proxy_unterminated_total",
    "counter",
    "Answers that ended cleanly but without their last record (`done:true`, `[DONE]` and the like), and were passed on "
    "as they came.",
    ("model", "backend"),
)
GENAI_DURATION: Final = Meter(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "Time from a request to the end of its answer; `error_type` is the error's code where it did not complete.",
    (*MODEL, "backend", "error_type"),
    _DURATION,
)
GENAI_FIRST_TOKEN: Final = Meter(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "Time from a request to the first chunk of its answer, of streams that completed; waiting for a slot and loading "
    "the model are in it.",
    (*MODEL, "backend"),
    _FIRST_TOKEN,
)
GENAI_PER_TOKEN: Final = Meter(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "Time for each token after the first, of streams that completed.",
    (*MODEL, "backend"),
    _PER_TOKEN,
)
GENAI_TOKENS: Final = Meter(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of a request, `input` and `output`, where the backend reported them.",
    (*MODEL, "gen_ai_token_type"),
    _TOKENS,
)

# The process, counted as it happens.

LAG: Final = Meter(
    "ollama_proxy_event_loop_lag_seconds",
    "histogram",
    "By how much a timer came late, twice a second: what every stream had to wait.",
    (),
    _LAG,
)
RELOADS: Final = Meter(
    "ollama_proxy_config_reloads_total",
    "counter",
    "Times the policy file was read again, and `loaded` or `refused`.",
    ("result",),
)

# Gauges, read when metrics are scraped.

CONNECTIONS: Final = Meter(
    "ollama_proxy_connections",
    "gauge",
    "Connections of clients, those in a TLS handshake included, by listener (`main`, `ops`).",
    ("listener",),
)
CONNECTIONS_LIMIT: Final = Meter(
    "ollama_proxy_connections_limit", "gauge", "Connections that a listener takes.", ("listener",)
)

IN_FLIGHT: Final = Meter(
    "ollama_proxy_requests_in_flight", "gauge", "Requests that run now, by the route's class.", ("class",)
)
QUEUE_WAITING: Final = Meter(
    "ollama_proxy_queue_waiting", "gauge", "Requests that wait for a slot now, by tenant (empty: none).", ("tenant",)
)
QUEUE_OLDEST: Final = Meter(
    "ollama_proxy_queue_oldest_seconds", "gauge", "How long the request at the head of the line has waited."
)
QUEUE_ADMITTED: Final = Meter(
    "ollama_proxy_queue_admitted_total",
    "counter",
    "Requests that got a slot, `at_once` or after they `waited`.",
    ("how",),
)
QUEUE_DROPPED: Final = Meter(
    "ollama_proxy_queue_dropped_total",
    "counter",
    "Requests that got none, by the error's code, or `client_gone`.",
    ("reason",),
)
BACKEND_INFO: Final = Meter(
    "ollama_proxy_backend_info", "gauge", "1; the labels say what is known of a backend.", ("backend", "version")
)
BACKEND_STATE: Final = Meter(
    "ollama_proxy_backend_state",
    "gauge",
    "1 for the state that a backend is in, 0 for all others.",
    ("backend", "state"),
)
BACKEND_SEEN: Final = Meter(
    "ollama_proxy_backend_seen_age_seconds", "gauge", "Time since a backend last said how it is.", ("backend",)
)
BACKEND_SLOTS: Final = Meter(
    "ollama_proxy_backend_slots",
    "gauge",
    "Requests a backend may run at once, of all models together; missing where unbounded.",
    ("backend",),
)
MODEL_SLOTS: Final = Meter(
    "ollama_proxy_model_slots",
    "gauge",
    "Requests of a model in memory that a backend runs at once, named or learned; missing where unbounded.",
    ("backend", "model"),
)
BACKEND_PERMITS: Final = Meter(
    "ollama_proxy_backend_permits",
    "gauge",
    "Requests this proxy may run at a backend now; missing where it shares no slots with other proxies.",
    ("backend",),
)
FLEET_UP: Final = Meter(
    "ollama_proxy_fleet_up",
    "gauge",
    "1 while the slots are shared with other proxies, 0 while this one goes on with its share of them.",
)
FLEET_PROXIES: Final = Meter(
    "ollama_proxy_fleet_proxies", "gauge", "Proxies that share the slots, as last seen, this one included."
)
BACKEND_ACTIVE: Final = Meter(
    "ollama_proxy_backend_active", "gauge", "Slots of a backend that are taken.", ("backend",)
)
BACKEND_EJECTIONS: Final = Meter(
    "ollama_proxy_backend_ejections_total", "counter", "Times a backend was left out because it failed.", ("backend",)
)
BACKEND_MODELS: Final = Meter(
    "ollama_proxy_backend_models", "gauge", "Models that a backend has on disk, or at its cloud account.", ("backend",)
)
RESIDENT: Final = Meter(
    "ollama_proxy_model_resident",
    "gauge",
    "1 for each model in a backend's memory; `other` counts those beyond the bound on models.",
    ("backend", "model"),
)
VRAM: Final = Meter(
    "ollama_proxy_model_vram_bytes",
    "gauge",
    "GPU memory that a model takes on a backend.",
    ("backend", "model"),
)
LOADING: Final = Meter(
    "ollama_proxy_backend_models_loading",
    "gauge",
    "Models that our requests make a backend load now.",
    ("backend",),
)
BODY_MEMORY: Final = Meter("ollama_proxy_body_memory_bytes", "gauge", "Memory that request bodies take.")
BODY_MEMORY_LIMIT: Final = Meter(
    "ollama_proxy_body_memory_limit_bytes", "gauge", "Memory that request bodies may take (`server.body.total`)."
)
BODY_MEMORY_LARGEST: Final = Meter(
    "ollama_proxy_body_memory_largest_bytes",
    "gauge",
    "Memory that the bodies of the one caller take who holds most (at most `server.body.share` of the limit).",
)
BODIES_REFUSED: Final = Meter(
    "ollama_proxy_bodies_refused_total",
    "counter",
    "Request bodies refused for want of memory: of their caller (`body_share_exceeded`) or of all "
    "(`body_memory_exhausted`).",
    ("code",),
)
TASKS: Final = Meter(
    "ollama_proxy_tasks", "gauge", "Tasks of the event loop: a few of the proxy's own, the rest requests."
)
DEFERRED: Final = Meter(
    "ollama_proxy_deferred_requests",
    "gauge",
    "Deferred requests that the journal has, by state (`queued`, `running`, `completed`, `failed`, `cancelled`, "
    "`expired`, `dead`).",
    ("state",),
)
LOG_DROPPED: Final = Meter(
    "ollama_proxy_log_lines_dropped_total", "counter", "Log lines lost because nobody took them in time."
)
FOLDED: Final = Meter(
    "ollama_proxy_label_sets_folded_total",
    "counter",
    "Requests counted as `other` because a metric has as many label sets as it may have.",
)
GENERATION: Final = Meter("ollama_proxy_config_generation", "gauge", "Which configuration is in force, from 1.")
LOADED_AT: Final = Meter(
    "ollama_proxy_config_loaded_timestamp_seconds", "gauge", "When the configuration in force was loaded."
)
RELOAD_OK: Final = Meter(
    "ollama_proxy_config_last_reload_successful",
    "gauge",
    "0 while the policy file is not the one in force because it has mistakes.",
)
WORKERS: Final = Meter("ollama_proxy_workers", "gauge", "Processes that serve.")
WORKERS_ENDED: Final = Meter(
    "ollama_proxy_workers_ended_total", "counter", "Worker processes that were gone and had to be replaced."
)
BUILD: Final = Meter("ollama_proxy_build_info", "gauge", "1; the labels say what runs.", ("version", "python"))

METERS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Meter))
"""All metrics, in the order of the reference."""

PROCESS: Final = (
    Meter("process_virtual_memory_bytes", "gauge", "Virtual memory of the process."),
    Meter("process_resident_memory_bytes", "gauge", "Resident memory of the process."),
    Meter("process_start_time_seconds", "gauge", "When the process started."),
    Meter("process_cpu_seconds_total", "counter", "CPU time of the process, user and system."),
    Meter("process_open_fds", "gauge", "Open file descriptors."),
    Meter("process_max_fds", "gauge", "File descriptors it may open."),
)
"""The metrics that prometheus-client itself has of a process, on Linux."""
