"""What of a request is counted where."""

import asyncio
from typing import Any

import pytest

from proxy.kernel.attempts import Usage
from proxy.kernel.errors import ConnectFailed, Refused
from proxy.kernel.exchange import Exchange
from proxy.telemetry.exposition import Point
from proxy.telemetry.metric_table import METERS, MODELS, OTHER, PROCESS, TENANTS, Meter
from proxy.telemetry.prometheus import PrometheusMetrics
from proxy.testing import make_exchange, suppose
from tests.support.metrics import Numbers, attempt, finished


def metrics(*, known: bool = True) -> PrometheusMetrics:
    return PrometheusMetrics(lambda model: known)


async def counted(*exchanges: Exchange, known: bool = True) -> Numbers:
    service = metrics(known=known)
    for exchange in exchanges:
        service.count(exchange)
    return Numbers(service.now())


async def test_a_chat_that_completed() -> None:
    numbers = await counted(await finished(tenant="physics", queued=0.1, ticket=object(), reading=0.05))
    assert (
        numbers(
            "ollama_proxy_requests_total",
            **{"class": "inference"},
            route="/api/chat",
            model="llama3.2:latest",
            backend="b1",
            tenant="physics",
            outcome="completed",
            status="2xx",
        )
        == 1
    )
    assert numbers("ollama_proxy_request_duration_seconds_sum") == 2.5
    assert numbers("ollama_proxy_queue_wait_seconds_sum", tenant="physics") == pytest.approx(0.1)
    assert numbers("ollama_proxy_overhead_seconds_sum") == pytest.approx(0.1)  # 0.25, less 0.1 queued, 0.05 reading
    assert numbers("ollama_proxy_received_bytes_total") == 20
    assert numbers("ollama_proxy_sent_bytes_total") == 2000
    assert numbers("ollama_proxy_sent_chunks_total") == 21
    assert numbers("ollama_proxy_tokens_total", direction="in", source="reported", tenant="physics") == 30
    assert numbers("ollama_proxy_tokens_total", direction="out", model="llama3.2:latest") == 21
    assert numbers("gen_ai_server_request_duration_seconds_sum", gen_ai_operation_name="chat", error_type="") == 2.5
    assert numbers("ollama_proxy_wasted_tokens_total") is None
    assert numbers("ollama_proxy_retries_total") is None


async def test_an_answer_without_its_terminator_that_was_passed_on() -> None:
    passed_on = await finished(terminated=False)
    others = [
        await finished(terminated=None),
        await finished(terminated=True),
        await finished(terminated=False, outcome="upstream_truncated"),
        await finished(terminated=False, outcome="client_gone"),
    ]
    numbers = await counted(passed_on, *others)
    assert numbers("ollama_proxy_unterminated_total", model="llama3.2:latest", backend="b1") == 1
    assert (await counted(*others))("ollama_proxy_unterminated_total") is None


async def test_a_request_that_never_queued_is_not_in_the_wait() -> None:
    assert (await counted(await finished()))("ollama_proxy_queue_wait_seconds_count") is None


async def test_a_refusal_names_the_plugin_and_nobody_it_does_not_know() -> None:
    error = Refused(401, "no")
    error.by = "auth"
    refused = make_exchange()
    suppose(refused, status=401, outcome="refused", error=error, ended_at=refused.started_at + 1)
    numbers = await counted(refused)
    assert numbers("ollama_proxy_refused_total", plugin="auth", code="invalid_api_key") == 1
    assert numbers("ollama_proxy_requests_total", model="", backend="", tenant="", status="4xx") == 1
    assert numbers("gen_ai_server_request_duration_seconds_count", error_type="invalid_api_key") == 1


async def test_where_there_is_no_route_there_is_no_path_either() -> None:
    exchange = make_exchange("GET", "/k/secret/nothing")
    suppose(exchange, outcome="client_gone", ended_at=exchange.started_at)
    numbers = await counted(exchange)
    assert numbers("ollama_proxy_requests_total", **{"class": "none"}, route=OTHER, status="none") == 1


async def test_attempts() -> None:
    failed = attempt("b1", "upstream_unreachable", ended=10.3)
    numbers = await counted(
        await finished(history=[failed, attempt("b2", began=10.3)]),
        await finished(
            history=[failed, attempt("b2", "status_503")],
            outcome="upstream_failed",
            status=502,
            error=ConnectFailed("no"),
            gave_up="attempts_spent",
        ),
    )
    assert numbers("ollama_proxy_retries_total", backend="b2") == 2
    assert numbers("ollama_proxy_retries_total", backend="b1") is None
    assert numbers("ollama_proxy_attempt_failures_total", backend="b1", code="upstream_unreachable") == 2
    assert numbers("ollama_proxy_attempt_failures_total", backend="b2", code="status_503") == 1
    assert numbers("ollama_proxy_retries_given_up_total", reason="attempts_spent") == 1
    # What came before the first attempt of these holds a back-off and a second wait: it is not the proxy's own time.
    assert numbers("ollama_proxy_overhead_seconds_count") == 0


async def test_what_was_generated_for_who_left() -> None:
    gone: dict[str, Any] = {"outcome": "client_gone", "history": [attempt(error="cancelled")]}
    numbers = await counted(
        await finished(usage=Usage(tokens_out=7, source="estimated"), **gone),
        await finished(usage=None, chunks=0, status=None, first_byte_at=None, **gone),
    )
    assert numbers("ollama_proxy_wasted_tokens_total", model="llama3.2:latest") == 7
    assert numbers("ollama_proxy_wasted_seconds_total", backend="b1") == pytest.approx(4.5)
    assert numbers("ollama_proxy_tokens_total", source="estimated", direction="out") == 7
    assert numbers("ollama_proxy_attempt_failures_total") is None


@pytest.mark.parametrize(
    ("known", "changes", "label"),
    [
        (True, {}, "llama3.2:latest"),
        (True, {"committed": False, "status": 503}, "llama3.2:latest"),
        (False, {}, "llama3.2:latest"),  # it answered, so it has it
        (False, {"status": 404}, OTHER),
        (False, {"committed": False, "status": 404}, OTHER),
    ],
)
async def test_a_model_is_told_apart_where_a_backend_has_it(known: bool, changes: dict[str, Any], label: str) -> None:
    numbers = await counted(await finished(**changes), known=known)
    assert numbers.labels("ollama_proxy_requests_total", "model") == {label}


async def test_one_model_by_many_names_is_one() -> None:
    numbers = await counted(
        *[await finished(model=name) for name in ("llama3.2", "LLAMA3.2:latest", "library/llama3.2")]
    )
    assert numbers.labels("ollama_proxy_requests_total", "model") == {"llama3.2:latest"}


async def test_more_models_and_tenants_than_are_told_apart() -> None:
    service = metrics()
    for number in range(max(MODELS, TENANTS) + 50):
        service.count(await finished(model=f"m{number}", tenant=f"t{number}"))
    numbers = Numbers(service.now())
    assert len(numbers.labels("ollama_proxy_requests_total", "model")) == MODELS + 1
    assert len(numbers.labels("ollama_proxy_requests_total", "tenant")) == TENANTS + 1
    assert service.folded > 0  # the histograms have fewer sets than there are models


async def test_reloads() -> None:
    service = metrics()
    service.reloaded(loaded=True)
    service.reloaded(loaded=False)
    numbers = Numbers(service.now())
    assert numbers("ollama_proxy_config_reloads_total", result="loaded") == 1
    assert numbers("ollama_proxy_config_reloads_total", result="refused") == 1
    assert numbers("ollama_proxy_config_last_reload_successful") == 0
    assert (numbers("ollama_proxy_config_loaded_timestamp_seconds") or 0) > 1e9


@pytest.mark.parametrize(
    ("accept", "kind", "last"),
    [
        ("", "text/plain; version=0.0.4", b"\n"),
        ("*/*", "text/plain; version=0.0.4", b"\n"),
        ("application/openmetrics-text; version=1.0.0, text/plain;q=0.5", "application/openmetrics-text", b"# EOF\n"),
        ("nonsense;;=,\x00", "text/plain", b"\n"),
    ],
)
async def test_exposition(accept: str, kind: str, last: bytes) -> None:
    service = metrics()
    service.count(await finished())
    body, content_type = await service.exposition(accept)
    assert content_type.startswith(kind)
    assert body.endswith(last)
    assert b"ollama_proxy_requests_total{" in body
    assert b"process_cpu_seconds_total" in body
    assert b"_created" not in body


async def test_everything_is_read_in_the_loop_and_not_in_the_thread_that_writes() -> None:
    def read() -> list[Point]:
        asyncio.get_running_loop()
        return [((), 1)]

    service = metrics()
    service.read([(Meter("here", "gauge", "Here."), read)])
    body, _ = await service.exposition()
    assert b"here 1.0" in body


def test_lag() -> None:
    service = metrics()
    service.lagged(0.02)
    assert Numbers(service.now())("ollama_proxy_event_loop_lag_seconds_sum") == 0.02


def test_every_metric_that_is_counted_is_told() -> None:
    told = {family.name for family in metrics().now().collect()}
    counted = {meter.name.removesuffix("_total") for meter in METERS}
    assert told <= counted | {meter.name.removesuffix("_total") for meter in PROCESS}
    assert {name for name in told if name.startswith("gen_ai_")} == {
        name for name in counted if name.startswith("gen_ai_")
    }


def test_who_is_not_let_in_is_counted_by_credential_and_reason() -> None:
    metrics = PrometheusMetrics(lambda key: False)
    for reason in ("unknown", "unknown", "too_many"):
        metrics.not_let_in("key", reason)
    numbers = Numbers(metrics.now())
    assert numbers("ollama_proxy_auth_failures_total", credential="key", reason="unknown") == 2
    assert numbers("ollama_proxy_auth_failures_total", credential="key", reason="too_many") == 1
