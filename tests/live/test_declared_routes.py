"""A route that a policy file declares is governed as the known one that it is like: each plugin's decision, on sockets.

Each row is sent to a proxy twice, to the known route and to the declared one. What the caller gets, what the backend
gets, and what the log says has to be the same.
"""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
import zstandard

from config.load import load
from config.problems import Invalid
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.app import App
from proxy.simulator import Ollama, routes
from tests.support.cli import run_beside
from tests.support.logs import Lines
from tests.support.policy import load_text
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask, request

LIKE = {
    "/v2/chat": "/api/chat",
    "/v2/generate": "/api/generate",
    "/v2/embed": "/api/embed",
    "/v2/completions": "/v1/chat/completions",
    "/v2/responses": "/v1/responses",
    "/v2/messages": "/v1/messages",
    "/v2/tags": "/api/tags",
    "/v2/show": "/api/show",
    "/v2/pull": "/api/pull",
    "/v2/push": "/api/push",
    "/v2/alive": "/",
}
ZSTD = b"\x28\xb5\x2f\xfd"
DECLARED = {known: path for path, known in LIKE.items()}
ROUTES = [
    {"path": path, "methods": ["GET" if known in ("/", "/api/tags") else "POST"], "like": known}
    for path, known in LIKE.items()
]


@pytest.fixture(autouse=True)
def another_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the simulated hosts have the declared routes, too."""
    for path, known in LIKE.items():
        method = "GET" if known in ("/", "/api/tags") else "POST"
        monkeypatch.setitem(routes._EXACT, (method, path), routes._EXACT[method, known])


@dataclass
class Outcome:
    """What came of one request, with the known route's path wherever the declared one's stood."""

    status: int
    body: Any
    headers: dict[str, str]
    relayed: list[Any]
    line: dict[str, Any] = field(repr=False)


LINE = (
    "status",
    "outcome",
    "model",
    "model_asked",
    "attempts",
    "tokens_in",
    "tokens_out",
    "tokens_source",
    "error_code",
)
HEADERS = ("retry-after", "x-ratelimit-remaining-tokens", "x-ratelimit-remaining-requests", "x-ollama-proxy-model")


def called(text: str, path: str, known: str) -> str:
    return text if path == known else text.replace(path, known)


async def outcome(proxy: Running, host: Ollama, path: str, known: str, body: Any) -> Outcome:
    host.requests.clear()
    method = "POST" if body is not None else "GET"
    headers = {"content-encoding": "zstd"} if isinstance(body, bytes) and body.startswith(ZSTD) else {}
    reply = await ask(proxy.address, method, path, body, headers)
    line = await proxy.log.request()
    said: Any = None
    if known == "/api/tags":
        said = [entry["name"] for entry in orjson.loads(reply.body)["models"]]
    elif reply.status != 200:
        said = called(reply.body.decode().replace(reply.headers["x-request-id"], "ID"), path, known)
    return Outcome(
        reply.status,
        said,
        {name: reply.headers[name] for name in HEADERS if name in reply.headers},
        [(called(seen.path, path, known), seen.body, seen.status) for seen in host.requests if seen.header("via")],
        {name: line.get(name) for name in LINE},
    )


def ask_for(**more: Any) -> dict[str, Any]:
    words: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
    return {"model": "llama3.2", **words, "max_tokens": 500, **more}


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
RESTRICTED = {"access": {"routes": ["read", "inference", "manage"], "models": ["llama3.2*", "alice/*"]}}
TABLE: list[tuple[str, Any, str, Any, int]] = [
    # what, the plugin, the known route, the body, the status
    ("num_ctx", {"parameters": {"num_ctx": {"max": 100}}}, "/api/chat", {"options": {"num_ctx": 5000}}, 200),
    (
        "num_ctx of embeddings",
        {"parameters": {"num_ctx": {"max": 100}}},
        "/api/embed",
        {"options": {"num_ctx": 5}},
        200,
    ),
    ("max_tokens", {"parameters": {"num_predict": {"max": 7}}}, "/v1/chat/completions", {"max_tokens": 5000}, 200),
    ("no bound", {"parameters": {"num_predict": {"max": 7}}}, "/v1/responses", {}, 200),
    ("refused", {"parameters": {"think": {"refuse": True}}}, "/v1/messages", {"thinking": {"type": "enabled"}}, 403),
    ("unload", {"parameters": {"keep_alive": {"min": "5m"}}}, "/api/generate", {"keep_alive": 0, "prompt": ""}, 403),
    ("alias", {"parameters": {"aliases": {"gpt-4o": "llama3.2"}}}, "/v1/chat/completions", {"model": "gpt-4o"}, 200),
    ("alias shown", {"parameters": {"aliases": {"gpt-4o": "llama3.2"}}}, "/api/show", {"model": "gpt-4o"}, 200),
    ("model", RESTRICTED, "/api/chat", {"model": "qwen3"}, 403),
    ("model twice", RESTRICTED, "/api/chat", b'{"model":"llama3.2","model":"qwen3"}', 400),
    ("model shown", RESTRICTED, "/api/show", {"model": "", "name": "qwen3"}, 403),
    ("plain name", RESTRICTED, "/api/push", {"model": "alice/x:local"}, 400),
    ("field", RESTRICTED, "/api/pull", {"modelfile": "FROM x"}, 403),
    ("field left out", RESTRICTED, "/api/pull", {"insecure": True}, 200),
    ("tool", {"access": {"hosted_tools": "refuse"}}, "/v1/messages", {"tools": [SEARCH]}, 403),
    ("tool left out", RESTRICTED, "/v1/messages", {"tools": [SEARCH]}, 200),
    ("list", RESTRICTED, "/api/tags", None, 200),
    ("class", {"access": {"routes": ["read"]}}, "/api/chat", {}, 403),
    (
        "tokens by num_predict",
        {"rate_limit": {"tokens": "9000/day"}},
        "/api/chat",
        {"options": {"num_predict": 90}},
        200,
    ),
    ("tokens by max_tokens", {"rate_limit": {"tokens": "9000/day"}}, "/v1/chat/completions", {}, 200),
    ("tokens of embeddings", {"rate_limit": {"tokens": "9000/day"}}, "/api/embed", {}, 200),
    ("requests", {"rate_limit": {"requests": "5/day", "by": ["identity", "model"]}}, "/v1/messages", {}, 200),
    ("queue", {"queue": {"depth": 2}}, "/v1/chat/completions", {}, 200),
    ("fallback", {"retry": {"fallback": {"phi4": ["llama3.2"]}}}, "/api/chat", {"model": "phi4"}, 200),
    ("zstd", RESTRICTED, "/v1/responses", zstandard.compress(b'{"model":"qwen3","input":"hi"}'), 403),
    ("zstd where it is not read", RESTRICTED, "/api/chat", zstandard.compress(b'{"model":"qwen3"}'), 415),
]


@pytest.mark.parametrize(("plugin", "known", "body", "status"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE])
async def test_a_declared_route_is_governed(plugin: Any, known: str, body: Any, status: int) -> None:
    asked = {**ask_for(), **body} if isinstance(body, dict) else body
    found = []
    for path in (known, DECLARED[known]):
        async with (
            Ollama("llama3.2", "qwen3", "nomic-embed-text", tokens=3, chat_embeds=True) as host,
            running(host.url, middleware=["logging", plugin], routes=ROUTES) as proxy,
        ):
            await looked(proxy)
            found.append(await outcome(proxy, host, path, known, asked))
    assert found[0].status == status
    assert found[1] == found[0]


async def looked(proxy: Running) -> None:
    for backend in proxy.app.pool.backends:
        await proxy.app.watch.look(backend)


async def test_what_the_fault_was() -> None:
    """``num_ctx: 5000`` reached a backend where the policy says 100, by a route at a path of its own."""
    declared = [{"path": "/v2/chat", "methods": ["POST"], "like": "/api/chat"}]
    chain = ["logging", {"parameters": {"num_ctx": {"max": 100}}}]
    async with Ollama() as host, running(host.url, middleware=chain, routes=declared) as proxy:
        reply = await ask(proxy.address, "POST", "/v2/chat", ask_for(options={"num_ctx": 5000}))
        assert reply.status == 200
        assert orjson.loads(host.last.body)["options"] == {"num_ctx": 100}


LONE = {"path": "/v2/chat", "methods": ["POST"], "kind": "inference", "body": "json", "models": ["model"]}
"""A route that does not say what it is like."""


async def test_what_cannot_be_governed_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    """By `check`, at the start, and at a reload, where the file that is in force stays."""
    file = tmp_path / "proxy.yaml"
    chain = ["logging", {"parameters": {"num_ctx": {"max": 100}}}]
    async with Ollama() as host, running(host.url, middleware=chain) as proxy:
        policy = {"backends": [{"name": "b1", "url": host.url}], "middleware": chain, "routes": [LONE]}
        file.write_text(yaml.safe_dump(policy, sort_keys=False))
        said = await run_beside("check", "-c", str(file), code=1)
        line = 1 + file.read_text().splitlines().index("routes:") + 1
        assert f"proxy.yaml:{line}:3: routes[0]: parameters cannot govern /v2/chat: nobody knows" in said.error
        assert "like: /api/chat" in said.error
        with pytest.raises(Invalid, match="cannot govern /v2/chat"):
            App(load(file), Lines())
        with pytest.raises(Invalid, match="cannot govern /v2/chat"):
            proxy.app.reload(load(file))
        assert (await ask(proxy.address, "POST", "/v2/chat", ask_for())).status == 404
        policy["routes"] = [{**LONE, "parameters": "none"}]
        file.write_text(yaml.safe_dump(policy))
        proxy.app.reload(load(file))
        assert (await ask(proxy.address, "POST", "/v2/chat", ask_for(options={"num_ctx": 5000}))).status == 200
        assert orjson.loads(host.last.body)["options"] == {"num_ctx": 5000}  # as the file says that there is none


BOUND = {"parameters": {"num_ctx": {"max": 100}}}
OPEN = {"access": {"routes": ["read", "inference", "manage", "account"], "models": ["llama3.2"]}}
PAST = [
    # what, the plugin, the route, what the file's mistake says
    ("no model", OPEN, {"path": "/v2/pull", "like": "/api/pull", "models": []}, "names no model"),
    ("no model shown", OPEN, {"path": "/v2/show", "like": "/api/show", "models": []}, "names no model"),
    ("no model at its path", OPEN, {"path": "/api/pull", "models": []}, "names no model"),
    ("called read", BOUND, {**LONE, "kind": "read"}, "parameters cannot govern"),
    ("called manage", BOUND, {**LONE, "kind": "manage"}, "parameters cannot govern"),
    ("a list at the path of chat", BOUND, {"path": "/api/chat", "like": "/api/tags"}, "is a known route itself"),
    ("read at the path of chat", BOUND, {"path": "/api/chat", "like": "/api/show", "kind": "read"}, "a known route"),
    ("embeddings at the path of chat", BOUND, {"path": "/api/chat", "like": "/v1/embeddings"}, "is a known route"),
    (
        "a prompt in a form",
        {"capture": {"prompt": "1KiB"}},
        {"path": "/v2/chat", "like": "/api/chat", "body": "multipart"},
        "capture cannot govern",
    ),
    ("without parameters", BOUND, {"path": "/api/chat", "parameters": "none"}, "have parameters"),
]


@pytest.mark.parametrize(("plugin", "route", "why"), [row[1:] for row in PAST], ids=[row[0] for row in PAST])
async def test_no_declared_route_leads_past_a_plugin(plugin: Any, route: dict[str, Any], why: str) -> None:
    """A reload with the route is refused, and the file that is in force stays."""
    async with Ollama("llama3.2", "qwen3") as host, running(host.url, middleware=[plugin]) as proxy:
        policy = {"backends": [{"name": "b1", "url": host.url}], "middleware": [plugin]}
        policy["routes"] = [{"methods": ["POST"], **route}]
        with pytest.raises(Invalid, match=why):
            proxy.app.reload(load_text(yaml.safe_dump(policy), env={}))


async def test_the_model_of_a_lone_route_is_found_where_it_says() -> None:
    lone = [
        {"path": "/v2/x", "methods": ["POST"], "kind": "inference", "body": "json", "models": ["engine", "draft"]},
        {"path": "/v2/x/{model}", "methods": ["POST"], "kind": "inference", "body": "json", "models": ["draft"]},
        {"path": "/v2/raw/{model}", "methods": ["POST"], "kind": "inference", "body": "raw"},
    ]
    chain = ["logging", {"access": {"models": ["llama3.2", "qwen3"]}}, {"retry": {"fallback": {"qwen3": ["llama3.2"]}}}]
    async with Ollama("llama3.2") as host, running(host.url, middleware=chain, routes=lone) as proxy:
        await looked(proxy)
        for path, body, status in [
            ("/v2/x", {"engine": "phi4"}, 403),
            ("/v2/x", {"engine": "llama3.2", "draft": "phi4"}, 403),
            ("/v2/x", {"engine": "llama3.2", "Engine": "phi4"}, 400),
            ("/v2/x", {"model": "phi4"}, 400),
            ("/v2/x/phi4", {"draft": "llama3.2"}, 403),
            ("/v2/x/llama3.2", {"draft": "phi4"}, 403),
            ("/v2/raw/phi4", {}, 403),
        ]:
            assert (await ask(proxy.address, "POST", path, body)).status == status
        assert not [seen for seen in host.requests if seen.header("via")]
        await ask(proxy.address, "POST", "/v2/x", {"engine": "qwen3"})
        assert orjson.loads(host.last.body) == {"engine": "llama3.2:latest"}
        host.requests.clear()
        await ask(proxy.address, "POST", "/v2/raw/llama3.2", {"some": "bytes"})
        assert host.last.body == b'{"some": "bytes"}'
        assert (await proxy.log.request(9))["model"] == "llama3.2:latest"


async def test_what_shadows_a_known_route_is_like_it_without_saying_so() -> None:
    shadow = [
        {"path": "/api/chat", "methods": ["POST"], "stream": False},
        {"path": "/v1/models/{id}", "methods": ["GET"], "kind": "read"},
    ]
    chain = ["logging", {"access": {"models": ["llama3.2"]}}, {"parameters": {"num_ctx": {"max": 100}}}]
    async with Ollama("llama3.2", "qwen3") as host, running(host.url, middleware=chain, routes=shadow) as proxy:
        await ask(proxy.address, "POST", "/api/chat", ask_for(options={"num_ctx": 5000}))
        assert orjson.loads(host.last.body)["options"] == {"num_ctx": 100}
        assert (await ask(proxy.address, "POST", "/api/chat", ask_for(model="qwen3"))).status == 403
        assert (await ask(proxy.address, "GET", "/v1/models/qwen3")).status == 403
        assert (await ask(proxy.address, "GET", "/v1/models/llama3.2")).status == 200


async def test_errors_are_said_in_the_flavor_of_the_route() -> None:
    chain = ["logging", {"access": {"routes": ["read"]}}]
    async with Ollama() as host, running(host.url, middleware=chain, routes=ROUTES) as proxy:
        for path, member in (("/v2/messages", "type"), ("/v2/responses", "message"), ("/v2/chat", None)):
            error = orjson.loads((await ask(proxy.address, "POST", path, ask_for())).body)["error"]
            assert isinstance(error, str) if member is None else member in error


async def test_it_is_sent_again_where_the_known_route_would_be() -> None:
    async with Ollama() as host, running(host.url, middleware=["logging", "retry"], routes=ROUTES) as proxy:
        for path, attempts in (("/v2/chat", 2), ("/v2/pull", 1)):
            host.fault("reset")
            await ask(proxy.address, "POST", path, ask_for())
            line = await proxy.log.request(1 if path == "/v2/chat" else 2)
            assert (line["attempts"], line["status"] == 200) == (attempts, attempts == 2)


async def test_its_words_are_captured() -> None:
    chain = ["logging", {"capture": {"prompt": "1KiB", "answer": "1KiB"}}]
    async with Ollama() as host, running(host.url, middleware=chain, routes=ROUTES) as proxy:
        for path in ("/v2/chat", "/v2/completions", "/v2/messages"):
            await ask(proxy.address, "POST", path, ask_for(prompt=None, input=None))
        await proxy.log.wait_for(lambda lines: sum(event["event"] == "content" for event in lines.events) == 3)
        for event in proxy.log.events:
            if event["event"] == "content":
                assert event["prompt"] == "user: hi"
                assert event["answer"]


async def test_logs_and_metrics_call_it_what_the_known_route_does() -> None:
    chain = [{"logging": {"format": "otel"}}, "metrics"]
    async with Ollama() as host, running(host.url, middleware=chain, routes=ROUTES, log={"format": "otel"}) as proxy:
        await ask(proxy.address, "POST", "/v2/chat", ask_for())
        metrics = (await ask(proxy.address, "GET", "/-/metrics")).body.decode()
    assert any('gen_ai_operation_name="chat"' in line for line in metrics.splitlines())
    assert 'gen_ai_operation_name="inference"' not in metrics


async def test_a_conversation_stays_where_its_prompt_is_kept() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, routes=ROUTES) as proxy:
        await looked(proxy)
        for path in ("/v2/chat", "/api/chat"):
            for _ in range(2):
                await ask(proxy.address, "POST", path, ask_for(messages=[{"role": "user", "content": path}]))
        lines = [await proxy.log.request(number) for number in range(1, 5)]
    assert lines[1]["reason"] == lines[3]["reason"]
    assert lines[1]["backend"] == lines[0]["backend"]


async def test_several_hosts_answer_it_as_one() -> None:
    async with Ollama("llama3.2") as one, Ollama("phi4") as two, running(one.url, two.url, routes=ROUTES) as proxy:
        await looked(proxy)
        lists = [orjson.loads((await ask(proxy.address, "GET", path)).body) for path in ("/v2/tags", "/api/tags")]
        assert {entry["name"] for entry in lists[0]["models"]} == {"llama3.2:latest", "phi4:latest"}
        assert lists[0] == lists[1]
        reply = await ask(proxy.address, "POST", "/-/backends/all/v2/pull", {"model": "qwen3"})
        assert orjson.loads(reply.body.splitlines()[-1]) == {"status": "success"}
        for host in (one, two):
            assert host.requests[-1].path == "/v2/pull" or any(seen.path == "/v2/pull" for seen in host.requests)
        assert (await ask(proxy.address, "POST", "/v2/pull", {"model": "qwen3"})).status == 409


@pytest.mark.parametrize("known", ["/api/chat", "/v1/chat/completions"])
async def test_a_place_in_the_queue_is_waited_for(known: str) -> None:
    """With one slot and no room to wait, a second request is refused on either route while the first one runs."""
    for path in (known, DECLARED[known]):
        async with (
            Ollama(tokens=3) as host,
            running(
                {"name": "b1", "url": host.url, "slots": 1}, middleware=[{"queue": {"depth": 0}}], routes=ROUTES
            ) as p,
        ):
            await looked(p)
            stall = host.fault("stall")
            first = await Client.connect(p.address)
            await first.send(request("POST", path, ask_for()))
            await host.wait_for(partial(getattr, stall, "hits"))
            assert (await ask(p.address, "POST", path, ask_for())).status == 503
            await first.close()


async def test_it_is_never_open_to_everybody_nor_a_page() -> None:
    from_a_page = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    async with Ollama() as host, running(host.url, routes=ROUTES) as proxy:
        assert (await ask(proxy.address, "GET", "/", headers=from_a_page)).status == 200
        assert (await ask(proxy.address, "GET", "/v2/alive", headers=from_a_page)).status == 403
        assert (await ask(proxy.address, "GET", "/v2/alive")).status == 200


async def test_a_key_in_the_path_leads_to_it_as_well(tmp_path: Path) -> None:
    key, entry = new_key("ann", now=time.time())
    add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml", "path_token": True}}, RESTRICTED]
    async with (
        Ollama("llama3.2", "qwen3") as host,
        running(host.url, middleware=chain, folder=tmp_path, routes=ROUTES) as p,
    ):
        assert (await ask(p.address, "POST", "/v2/chat", ask_for())).status == 401
        assert (await ask(p.address, "GET", "/v2/alive")).status == 401
        assert (await ask(p.address, "POST", f"/k/{key}/v2/chat", ask_for(model="qwen3"))).status == 403
        assert (await ask(p.address, "POST", f"/k/{key}/v2/chat", ask_for())).status == 200


SPELLINGS = [
    ("POST", "/v2/chat/", 307),
    ("GET", "/v2/chat", 426),  # it wants a WebSocket, and names no version
    ("HEAD", "/v2/chat", 405),
    ("POST", "/v2//chat", 404),
    ("POST", "/V2/chat", 404),
    ("POST", "/v2/%63hat", 403),
    ("POST", "/-/backends/b1/v2/chat", 403),
    ("POST", "/v2/chat?x=1", 403),
]


@pytest.mark.parametrize(("method", "path", "status"), SPELLINGS)
async def test_no_spelling_passes_by(method: str, path: str, status: int) -> None:
    async with Ollama("qwen3") as host, running(host.url, middleware=[RESTRICTED], routes=ROUTES) as proxy:
        reply = await ask(
            proxy.address, method, path, ask_for(model="qwen3"), {"connection": "Upgrade", "upgrade": "websocket"}
        )
        assert reply.status == status
        assert not [seen for seen in host.requests if seen.header("via")]
