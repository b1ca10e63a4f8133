"""The numbers of a whole proxy: Prometheus takes them, the reference has them all, and clients cannot multiply them."""

import asyncio
import re
from typing import Any

from middleware.metrics import Metrics
from proxy.chain.frame import Frame, Generation
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Message, Receive, Scope, Send
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import RouteTable
from proxy.simulator import Ollama
from proxy.telemetry.metric_table import METERS, MODELS, PROCESS, SETS, SPREAD, TENANTS
from proxy.telemetry.prometheus import PrometheusMetrics
from proxy.testing import suppose
from tests.conftest import Need
from tests.support import promtool
from tests.support.metrics import Numbers
from tests.support.options import body_budget
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
CHAIN = ["logging", "metrics", {"queue": {"wait": "5s"}}, {"retry": {"attempts": 2}}]


async def exposition(proxy: Running) -> str:
    body, _ = await proxy.app.metrics.exposition()
    return body.decode()


async def some_of_everything(proxy: Running, *hosts: Ollama) -> None:
    """A failure that was retried in vain, answers, a model that nobody has, a path that is none."""
    for host in hosts:
        host.fault("status", status=500, route="/api/chat")
    for _ in range(5):
        await ask(proxy.address, "POST", "/api/chat", CHAT)
    await ask(proxy.address, "POST", "/api/embed", {"model": "nobody-has-this", "input": "x"})
    await ask(proxy.address, "GET", "/api/nothing")
    await proxy.log.request(7)


async def test_prometheus_takes_them(need: Need) -> None:
    need("promtool", promtool.FOUND)
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=CHAIN, watched=True) as proxy:
        await some_of_everything(proxy, one, two)
        promtool.promtool("check", "metrics", stdin=(await exposition(proxy)).encode())


async def test_what_is_documented_is_told_and_the_other_way_round() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=CHAIN, watched=True) as proxy:
        await some_of_everything(proxy, one, two)
        text = await exposition(proxy)
    told = set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))
    assert told == {meter.name for meter in (*METERS, *PROCESS)}
    labels: dict[str, set[str]] = {}
    for name, inside in re.findall(r"^([a-z_]+)\{(.*)\} ", text, re.MULTILINE):
        labels.setdefault(re.sub(r"_(bucket|sum|count)$", "", name), set()).update(re.findall(r'([a-z_]+)="', inside))
    known = {meter.name: set(meter.labels) | ({"le"} if meter.buckets else set()) for meter in METERS}
    assert {name: labels[name] for name in labels} == {name: known[name] for name in labels}


async def test_what_a_proxy_at_work_tells() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=CHAIN, watched=True) as proxy:
        await some_of_everything(proxy, one, two)
        numbers = Numbers(proxy.app.metrics.now())
    assert numbers("ollama_proxy_requests_total", model="llama3.2:latest", outcome="completed") == 4
    assert numbers("ollama_proxy_requests_total", route="other", status="4xx") == 1
    assert numbers("ollama_proxy_requests_total", route="/api/embed", model="other") == 1
    for backend in ("b1", "b2"):
        assert numbers("ollama_proxy_attempt_failures_total", backend=backend, code="status_500") == 1
    assert numbers("ollama_proxy_retries_total") == 1
    assert numbers("ollama_proxy_queue_admitted_total", how="at_once") == 6
    assert numbers("ollama_proxy_model_resident") is not None
    assert numbers("ollama_proxy_overhead_seconds_count") == 5
    first_tokens = numbers("gen_ai_server_time_to_first_token_seconds_count", gen_ai_request_model="llama3.2:latest")
    assert first_tokens == 4


async def test_what_is_no_request_is_counted_too() -> None:
    """Bad framing, a head that is too large, one that never ends: by codes of ours, whatever is sent."""
    async with Ollama() as one, running(one.url, server={"head": {"deadline": "100ms", "size": "2KiB"}}) as proxy:
        proxy.app.server = proxy.server
        heads = {
            b"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n": 400,
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
            b"GET / HTTP/1.1\r\nX-Fill: " + b"x" * 4096: 431,
            b"GET / HTTP/1.1\r\nX-Slow: ": 408,
        }
        for head, status in heads.items():
            client = await Client.connect(proxy.address)
            await client.send(head)
            assert (await client.read_head()).status == status
            await client.close()
        numbers = Numbers(proxy.app.metrics.now())
    refused = {
        code: numbers("ollama_proxy_http_refused_total", code=code)
        for code in numbers.labels("ollama_proxy_http_refused_total", "code")
    }
    assert refused == {"bad_framing": 1, "bad_host": 1, "head_too_large": 1, "head_timeout": 1}
    assert numbers("ollama_proxy_requests_total") is None


async def test_without_the_plugin_only_requests_are_missing() -> None:
    async with Ollama() as one, running(one.url, middleware=["logging"]) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        numbers = Numbers(proxy.app.metrics.now())
    assert numbers("ollama_proxy_requests_total") is None
    assert numbers("ollama_proxy_backend_state", backend="b1", state="up") == 1


async def test_reloads_are_counted_and_counters_survive_them() -> None:
    async with Ollama() as one, running(one.url, middleware=["logging", "metrics"]) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        proxy.app.reload(proxy.app.plan.loaded)
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        await proxy.log.request(2)
        numbers = Numbers(proxy.app.metrics.now())
    assert numbers("ollama_proxy_requests_total", route="/api/chat") == 2
    assert numbers("ollama_proxy_config_generation") == 2


async def test_thousands_of_models_users_and_paths() -> None:
    """Whatever clients send, there are only so many series: all bounds are reached in the first half."""
    count = 10 * SETS
    service = PrometheusMetrics(lambda model: False)

    async def whoever(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        number = int(scope["path"].rpartition("/")[2])
        suppose(exchange, identity=f"user-{number}", tenant=f"tenant-{number}")
        if number % 3:
            raise Refused(404, "no such model", code=codes.NOT_FOUND)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    generation = Generation(1, Metrics(whoever, metrics=service), RouteTable())
    frame = Frame(generation, bodies=body_budget())

    async def send(message: Message) -> None: ...

    async def request(number: int, path: str, method: str = "GET") -> None:
        body: list[Message] = [{"type": "http.request", "body": b'{"model":"model-%d"}' % number, "more_body": False}]

        async def receive() -> Message:
            if not body:
                await asyncio.Event().wait()  # the client stays
            return body.pop()

        scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "scheme": "http",
            "headers": [(b"user-agent", b"agent-%d" % number)],
            "client": ("127.0.0.1", 1),
            "state": {},
        }
        await frame(scope, receive, send)

    async def series() -> int:
        body, _ = await service.exposition()
        return sum(not line.startswith(b"#") for line in body.splitlines())

    for number in range(count):
        await request(number, f"/v1/models/{number}" if number % 2 else f"/nothing/{number}")
        if number == count // 2:
            early = await series()
    late = await series()
    assert late == early
    # Each counter and each histogram has its bound; here one counter is at the number of tenants, times two outcomes.
    assert late < 4 * TENANTS + SPREAD * 20 + SETS
    numbers = Numbers(service.now())
    assert numbers("ollama_proxy_requests_total") == count
    assert len(numbers.labels("ollama_proxy_requests_total", "model")) <= MODELS + 2
    assert len(numbers.labels("ollama_proxy_requests_total", "tenant")) == TENANTS + 1
    assert numbers.labels("ollama_proxy_requests_total", "route") == {"/v1/models/{model}", "other"}
