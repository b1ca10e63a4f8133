"""What is read at the moment somebody asks."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.kernel import error_codes as codes
from proxy.pool.backend import Backend
from proxy.pool.residency import Resident
from proxy.queue.scheduler import Counts, FairScheduler, Status
from proxy.telemetry.exposition import Moment, Reading
from proxy.telemetry.gauges import of_backends, of_process, of_queue, of_refusals, of_requests, of_servers, tenant_of
from proxy.telemetry.metric_table import OTHER
from proxy.telemetry.series import Names
from proxy.testing import make_exchange
from tests.support.logs import Lines
from tests.support.metrics import Numbers
from tests.support.options import body_budget, make_backend, make_pool

LLAMA = "registry.ollama.ai/library/llama3.2:latest"


def read(readings: Iterable[Reading]) -> Numbers:
    return Numbers(Moment(readings))


def backend(**changes: Any) -> Backend:
    made = make_backend("b1", "http://127.0.0.1:1", slots=4)
    made.residency.saw(changes.pop("resident", {}))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_backend_that_was_never_seen() -> None:
    numbers = read(of_backends(make_pool([make_backend("b1", "http://127.0.0.1:1")]), Names(10)))
    assert numbers("ollama_proxy_backend_info", backend="b1", version="") == 1
    assert numbers("ollama_proxy_backend_state", backend="b1", state="up") == 1
    for unknown in ("slots", "seen_age_seconds", "models"):
        assert numbers(f"ollama_proxy_backend_{unknown}") is None


def test_a_backend_at_work() -> None:
    one = backend(
        version="0.33.0",
        seen_at=0.0,
        active=3,
        models={LLAMA: {}, "x": {}},
        resident={LLAMA: Resident(vram=2_000), "registry.ollama.ai/library/gpt-oss:120b@cloud": Resident()},
    )
    one.loading[LLAMA] = 2
    one.health.eject(0.0, "failed")
    numbers = read(of_backends(make_pool([one]), Names(10)))
    assert numbers("ollama_proxy_backend_info", version="0.33.0") == 1
    assert numbers("ollama_proxy_backend_slots", backend="b1") == 4
    assert numbers("ollama_proxy_backend_active", backend="b1") == 3
    assert numbers("ollama_proxy_backend_models", backend="b1") == 2
    assert numbers("ollama_proxy_backend_models_loading", backend="b1") == 1
    assert numbers("ollama_proxy_backend_ejections_total", backend="b1") == 1
    assert (numbers("ollama_proxy_backend_seen_age_seconds") or 0) > 0
    states = {state: numbers("ollama_proxy_backend_state", state=state) for state in ("up", "ejected", "draining")}
    assert states == {"up": 0, "ejected": 1, "draining": 0}
    assert numbers("ollama_proxy_model_vram_bytes", backend="b1", model="llama3.2:latest") == 2_000
    assert numbers("ollama_proxy_model_resident", backend="b1", model="gpt-oss:120b") == 1


def test_how_many_of_a_model_run_at_once_where_that_is_known() -> None:
    one = make_backend("b1", "http://127.0.0.1:1")
    other = "registry.ollama.ai/library/qwen3:latest"
    one.residency.saw({LLAMA: Resident(), other: Resident()})
    one.parallel.began(LLAMA, 0.0, "loaded").runs.limit = 2
    numbers = read(of_backends(make_pool([one]), Names(10)))
    assert numbers("ollama_proxy_model_slots", backend="b1", model="llama3.2:latest") == 2
    assert numbers("ollama_proxy_model_slots", backend="b1", model="qwen3:latest") is None
    one.slots_per_model = 4
    numbers = read(of_backends(make_pool([one]), Names(10)))
    assert numbers("ollama_proxy_model_slots", backend="b1", model="qwen3:latest") == 4


def test_a_backend_that_claims_more_models_than_are_told_apart() -> None:
    resident = {f"registry.ollama.ai/library/m{number}:latest": Resident(vram=1) for number in range(1000)}
    numbers = read(
        of_backends(make_pool([backend(resident=resident | {"nonsense / key": Resident(vram=1)})]), Names(10))
    )
    assert len(numbers.labels("ollama_proxy_model_resident", "model")) == 11
    assert numbers("ollama_proxy_model_vram_bytes", model=OTHER) == 991
    assert numbers("ollama_proxy_model_resident", model=OTHER) == 991


@pytest.mark.parametrize(
    ("key", "tenant"),
    [("tenant=physics", "physics"), ("tenant=a%2Cb", "a,b"), ("tenant=@alice", ""), ("tenant=@@10.0.0.1", "")],
)
def test_the_queue_counts_by_keys(key: str, tenant: str) -> None:
    assert tenant_of(key) == tenant


def test_the_queue() -> None:
    waiting = {"tenant=physics": 2, "tenant=@alice": 1, "tenant=@@::/64": 3, "tenant=late": 1}
    counts = Counts(at_once=5, waited=3)
    counts.dropped["queue_full"] += 2
    scheduler = cast(FairScheduler, SimpleNamespace(status=lambda: Status(waiting, 1.5), counts=counts))
    numbers = read(of_queue(scheduler, Names(2)))
    assert numbers("ollama_proxy_queue_waiting", tenant="physics") == 2
    assert numbers("ollama_proxy_queue_waiting", tenant="") == 4
    assert numbers("ollama_proxy_queue_waiting", tenant=OTHER) == 1
    assert numbers("ollama_proxy_queue_oldest_seconds") == 1.5
    assert numbers("ollama_proxy_queue_admitted_total", how="at_once") == 5
    assert numbers("ollama_proxy_queue_admitted_total", how="waited") == 3
    assert numbers("ollama_proxy_queue_dropped_total", reason="queue_full") == 2


def test_what_the_servers_refused_is_summed_over_those_that_run() -> None:
    main = SimpleNamespace(
        refusals={"bad_host": 2, "head_timeout": 1},
        turned_away={"address": 4},
        open_connections=7,
        bounds=SimpleNamespace(total=10),
    )
    ops = SimpleNamespace(
        refusals={"bad_host": 1}, turned_away={"address": 1}, open_connections=1, bounds=SimpleNamespace(total=2)
    )
    servers = cast(Any, {"main": main, "ops": ops})
    numbers = read([*of_servers(lambda: servers), *of_refusals(servers.values)])
    assert numbers("ollama_proxy_connections_refused_total", reason="address") == 5
    assert numbers("ollama_proxy_connections", listener="main") == 7
    assert numbers("ollama_proxy_connections_limit", listener="ops") == 2
    assert numbers("ollama_proxy_http_refused_total", code="bad_host") == 3
    assert numbers("ollama_proxy_http_refused_total", code="head_timeout") == 1


async def test_requests_and_process() -> None:
    live = [make_exchange("POST", "/api/chat"), make_exchange("POST", "/api/chat"), make_exchange("GET", "/nothing")]
    frame = cast(Any, SimpleNamespace(live=live, current=SimpleNamespace(number=3)))
    bodies, sink = body_budget(each=10, total=100), Lines()
    bodies.book(7, "=alice")
    bodies.refusal(429, codes.BODY_SHARE_EXCEEDED, "too much")
    sink.dropped = 2
    numbers = read([*of_requests(frame), *of_process(bodies, sink)])
    assert numbers("ollama_proxy_requests_in_flight", **{"class": "inference"}) == 2
    assert numbers("ollama_proxy_requests_in_flight", **{"class": "none"}) == 1
    assert numbers("ollama_proxy_config_generation") == 3
    assert numbers("ollama_proxy_body_memory_bytes") == 7
    assert numbers("ollama_proxy_body_memory_limit_bytes") == 100
    assert numbers("ollama_proxy_body_memory_largest_bytes") == 7
    assert numbers("ollama_proxy_bodies_refused_total", code="body_share_exceeded") == 1
    assert numbers("ollama_proxy_log_lines_dropped_total") == 2
    assert numbers("ollama_proxy_tasks") == len(asyncio.all_tasks())
    assert numbers("ollama_proxy_build_info") == 1
