"""What pages in somebody's browser can do: for every route over sockets, and in a real Chromium."""

import json
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.ops.routes import HEALTH
from proxy.ops.routes import ROUTES as OPS
from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.backend import always, backend, reply
from tests.support.browser import CHROMEDRIVER, CHROMIUM, Browser, browser
from tests.support.certificates import Authority
from tests.support.policy import load_text
from tests.support.proxy import running
from tests.support.wire import Client, Reply, ask, request

CHAT: Final[dict[str, Any]] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": False}
EVIL: Final = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
REBOUND: Final = {"Host": "evil.example:11435", "Origin": "http://evil.example:11435", "Sec-Fetch-Site": "same-origin"}
PAGES: Final[dict[str, dict[str, str]]] = {
    "a foreign origin": EVIL,
    "no origin": {"Origin": "null", "Content-Type": "text/plain"},
    "an element of a foreign page": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a link of a foreign page": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "a rebound name": REBOUND,
    "a rebound name without an origin": {"Host": "evil.example:11435"},
}


def calls(routes: Iterable[Route]) -> list[tuple[str, str]]:
    """Each method of each route, and what is no route."""
    found = [(method, route.path) for route in routes for method in route.methods]
    found = [(method, path.replace("{file}", "page.js").replace("{", "").replace("}", "")) for method, path in found]
    paths = dict.fromkeys(path for _, path in found)
    return [*found, *(("OPTIONS", path) for path in paths), ("POST", "/nowhere"), ("GET", "/-/backends/b1/api/tags")]


async def swept(address: tuple[str, int], routes: Iterable[Route], headers: dict[str, str]) -> dict[str, Reply]:
    """Make every call to a listener with those headers; return the answers that are not 403."""
    through: dict[str, Reply] = {}
    for method, path in calls(routes):
        body = b'{"model":"llama3.2","name":"llama3.2"}' if method in ("POST", "DELETE") else None
        answer = await ask(address, method, path, body, headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")], (method, path)
        if answer.status != 403:
            through[f"{method} {path}"] = answer
    return through


@pytest.mark.parametrize("page", PAGES)
async def test_no_route_answers_a_page_that_may_not_call(page: str) -> None:
    probes = {f"{method} {route.path}" for route in HEALTH for method in route.methods} if "rebound" in page else set()
    async with Ollama() as sim, running(sim.url, ops={"listen": "127.0.0.1:0"}) as proxy:
        assert (await swept(proxy.address, (*OLLAMA, *HEALTH), PAGES[page])).keys() == probes
        assert proxy.app.ops_server is not None
        host, _, port = proxy.app.ops_server.addresses[0].rpartition(":")
        assert (await swept((host, int(port)), OPS, PAGES[page])).keys() == probes
        assert not sim.requests
    async with Ollama() as sim, running(sim.url) as proxy:
        assert (await swept(proxy.address, OPS, PAGES[page])).keys() == probes
        assert not sim.requests


OPEN: Final = {f"{method} {route.path}" for route in (*OLLAMA, *OPS) if route.open for method in route.methods}


@pytest.mark.parametrize("auth", [{"addresses": [{"network": "127.0.0.1", "identity": "me"}]}, {"anonymous": "guests"}])
async def test_what_a_browser_is_known_by_opens_nothing_at_a_rebound_name(auth: dict[str, Any]) -> None:
    chain = [{"auth": auth}, {"access": {"routes": ["read", "inference", "manage", "account", "ops"]}}]
    async with Ollama() as sim, running(sim.url, middleware=chain, policies={"guests": {}}) as proxy:
        through = await swept(proxy.address, (*OLLAMA, *OPS), REBOUND)
        assert {call.replace("page.js", "{file}") for call in through} == OPEN
        assert [seen.path for seen in sim.requests if seen.path != "/"] == []
        for headers in PAGES.values():
            if "Host" not in headers:
                assert await swept(proxy.address, (*OLLAMA, *OPS), headers) == {}


async def test_a_client_certificate_is_no_pages_to_use(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, robot = authority.issue("llm.example.com", "127.0.0.1"), authority.issue("ci.example.com")
    context = ssl.create_default_context(cafile=authority.cert)
    context.load_cert_chain(robot.cert, robot.key)
    tls = {"cert": server.cert, "key": server.key, "client_ca": authority.cert}
    async with Ollama() as sim, running(sim.url, middleware=[{"auth": {"mtls": {}}}], tls=tls) as proxy:
        own = {"Host": "llm.example.com", "Origin": "https://llm.example.com"}
        for headers, status in (
            (own, 200),  # the certificate says that the name is the proxy's
            ({"Host": "localhost"}, 200),
            (own | {"Origin": "http://llm.example.com"}, 403),
            (own | {"Origin": "https://evil.example"}, 403),
            ({"Host": "evil.example", "Origin": "https://evil.example"}, 403),
            ({"Host": "localhost", "Origin": "http://localhost:3000", "Content-Type": "text/plain"}, 403),
        ):
            sim.requests.clear()
            client = await Client.connect(proxy.address, ssl=context)
            await client.send(request("POST", "/api/generate", b'{"model":"llama3.2","stream":false}', headers))
            assert (await client.read()).status == status, headers
            assert len(sim.requests) == (status == 200)
            await client.close()


async def test_programs_and_pages_that_ollama_allows_are_served_without_a_word_in_the_policy_file() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        port = proxy.address[1]
        for headers in (
            {},
            {"Host": "192.168.1.5:11435"},
            {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"},
            {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
            {"Origin": "app://obsidian.md", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "vscode-webview://1a2b", "Sec-Fetch-Site": "cross-site"},
        ):
            answer = await ask(proxy.address, "POST", "/api/chat", CHAT, headers)
            assert answer.status == 200, headers
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (headers.get("Origin") if "Sec-Fetch-Site" in headers else None)
        preflight = {"Origin": "app://x", "Access-Control-Request-Method": "DELETE"}
        answer = await ask(proxy.address, "OPTIONS", "/api/delete", None, preflight)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "app://x")


async def test_the_policy_file_says_which_names_are_known() -> None:
    async with Ollama() as sim, running(sim.url, server={"hosts": ["llm.example.com", "*.corp.example"]}) as proxy:
        for host, status in (("llm.example.com:80", 200), ("a.corp.example", 200), ("corp.example", 403)):
            assert (await ask(proxy.address, "GET", "/api/tags", headers={"Host": host})).status == status, host
        answer = await ask(proxy.address, "GET", "/api/tags", headers={"Host": "other.example"})
        assert "server.hosts" in json.loads(answer.body)["error"]
        numbers = await ask(proxy.address, "GET", "/-/metrics")
        assert b'ollama_proxy_http_refused_total{code="unknown_host"} 2.0' in numbers.body
        assert [event["reason"] for event in proxy.log.events if event["event"] == "request_refused"] == [
            "unknown_host",
            "unknown_host",
        ]


async def test_a_reload_says_anew_who_may_call() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:

        async def statuses() -> list[int]:
            tried = ({"Host": "llm.example.com"}, {"Origin": "https://chat.example.com"}, {"Origin": "app://x"})
            return [(await ask(proxy.address, "GET", "/api/tags", headers=headers)).status for headers in tried]

        assert await statuses() == [403, 403, 200]
        backends = f'backends: [{{name: b1, url: "{sim.url}"}}]\n'
        cors = "middleware: [{cors: {origins: ['https://chat.example.com'], ollama_origins: false}}]\n"
        proxy.app.reload(load_text(backends + "server: {hosts: [llm.example.com]}\n" + cors))
        assert await statuses() == [200, 200, 403]
        proxy.app.reload(load_text(backends))
        assert await statuses() == [403, 403, 200]


KINDS: Final = ("text/html", "image/svg+xml", "application/xml", "text/javascript", "application/pdf", "text/html, a/b")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "502 Bad Gateway"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_backends_page_is_text_in_the_proxys_origin(kind: str, status: str) -> None:
    page = b"<script>document.title='owned'</script>"
    fields = (b"Content-Type: " + kind.encode(), b"Set-Cookie: a=b", b"Access-Control-Allow-Origin: *")
    async with backend(always(reply(page, *fields, status=status.encode()))) as host, running(host.url) as proxy:
        answer = await ask(proxy.address, "GET", "/api/tags")
        assert (answer.status, answer.body) == (int(status[:3]), page)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not {"set-cookie", "access-control-allow-origin"} & answer.headers.keys()


# In Chromium

EVIL_NAMES: Final = "--host-resolver-rules=MAP *.example 127.0.0.1"
FETCH: Final = """
const [url, options, done] = arguments;
fetch(url, options).then(
    async a => done([a.status, await a.text(), Object.fromEntries(a.headers)]),
    error => done([error.name]));
"""


@pytest.fixture
def _chromium(need: Need) -> None:
    need("chromium with chromium-driver", bool(CHROMIUM and CHROMEDRIVER))


@asynccontextmanager
async def page_at(name: str) -> AsyncIterator[tuple[Browser, str]]:
    """A browser on a page of ``http://<name>.example`` at a port of its own, and that page's origin."""
    html = reply(b"<!doctype html><title>a page</title>", b"Content-Type: text/html")
    async with backend(always(html)) as site, browser(EVIL_NAMES) as page:
        origin = f"http://{name}.example:{site.url.rpartition(':')[2]}"
        await page.open(origin + "/")
        assert await page.run("return location.origin") == origin
        yield page, origin


async def fetched(page: Browser, url: str, **options: Any) -> list[Any]:
    """Return status, body and readable headers of a fetch, or the name of the error that the script sees."""
    found: list[Any] = await page.command("POST", "execute/async", {"script": FETCH, "args": [url, options]})
    return found


ATTEMPTS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/api/generate", {"method": "POST", "headers": {"content-type": "text/plain"}, "body": '{"model":"llama3.2"}'}),
    ("/api/pull", {"method": "POST", "headers": {"content-type": "text/plain"}, "body": '{"model":"x"}'}),
    ("/api/generate", {"method": "POST", "mode": "no-cors", "body": '{"model":"llama3.2"}'}),
    ("/api/delete", {"method": "DELETE", "body": '{"model":"llama3.2"}'}),
    ("/api/tags", {}),
    ("/api/tags", {"mode": "no-cors", "credentials": "include"}),
    ("/-/config", {}),
    ("/-/reload", {"method": "POST", "mode": "no-cors"}),
)


@pytest.mark.usefixtures("_chromium")
async def test_a_page_of_a_foreign_origin_reaches_nothing() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, page_at("evil") as (page, _):
        for path, options in ATTEMPTS:
            found = await fetched(page, proxy.url + path, **options)
            assert found in (["TypeError"], [0, "", {}]), (path, found)
        assert await page.run('return navigator.sendBeacon(arguments[0], \'{"model":"x"}\')', proxy.url + "/api/pull")
        await page.run(
            "const form = Object.assign(document.createElement('form'), {method: 'POST', enctype: 'text/plain'});"
            "form.action = arguments[0]; document.body.append(form);"
            "form.append(Object.assign(document.createElement('input'), {name: '{\"model\":\"x', value: '\"}'}));"
            "form.submit()",
            proxy.url + "/api/pull",
        )
        await page.until("document.body.innerText.includes('may not call this proxy')")
        assert not sim.requests


@pytest.mark.usefixtures("_chromium")
async def test_a_page_of_a_rebound_name_reaches_nothing() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, browser(EVIL_NAMES) as page:
        rebound = f"http://rebound.example:{proxy.address[1]}"
        await page.open(rebound + "/")
        assert await page.run("return location.origin") == rebound
        for path, options in ATTEMPTS:
            found = await fetched(page, path, **options)
            assert found[0] == 403, (path, found)
        assert not sim.requests


@pytest.mark.usefixtures("_chromium")
async def test_a_page_that_may_call_reads_answers_and_errors(tmp_path: Path) -> None:
    key, entry = new_key("alice", now=0)
    add_key(tmp_path / "keys.yaml", entry)
    async with Ollama() as sim, page_at("chat") as (page, origin):
        chain = [
            "logging",
            {"cors": {"origins": [origin]}},
            {"auth": {"keys": "keys.yaml"}},
            {"rate_limit": {"requests": "2/minute"}},
        ]
        async with running(sim.url, middleware=chain, folder=tmp_path) as proxy:
            url = proxy.url + "/api/chat"
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            options = {"method": "POST", "headers": headers, "body": json.dumps(CHAT)}
            status, text, _ = await fetched(page, url, method="POST", body="{}")
            assert (status, "a key is required" in text) == (401, True)
            status, text, readable = await fetched(page, url, **options)
            assert (status, json.loads(text)["done"]) == (200, True)
            assert readable["x-request-id"]
            await sim.stop()
            status, text, _ = await fetched(page, url, **options)
            assert (status, "error" in json.loads(text)) == (502, True)
            status, _, readable = await fetched(page, url, **options)
            assert status == 429
            assert int(readable["retry-after"]) > 0
            assert (await fetched(page, proxy.url + "/nowhere", headers=headers))[0] == 404


GUIDE: Final = (Path(__file__).parents[2] / "docs/guides/browsers.md").read_text("utf-8")


@pytest.mark.usefixtures("_chromium")
async def test_the_page_of_the_guide_works_from_localhost(tmp_path: Path) -> None:
    key, entry = new_key("alice", now=0)
    add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml"}}, {"rate_limit": {"requests": "1/minute"}}]
    html = GUIDE.split("```html\n")[1].split("```")[0]
    async with Ollama(tokens=3) as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy:
        html = html.replace("http://127.0.0.1:11435", proxy.url).replace("op_…", key)
        site = always(reply(html.encode(), b"Content-Type: text/html"))
        async with backend(site) as host, browser() as page:
            await page.open(host.url.replace("127.0.0.1", "localhost") + "/page.html")
            assert (await page.run("return location.hostname")) == "localhost"
            await page.run("document.querySelector('button').click()")
            await page.until("document.querySelector('pre').textContent")
            line = await proxy.log.request()
            assert (line["status"], line["outcome"], line["identity"]) == (200, "completed", "alice")
            await page.run("document.querySelector('button').click()")
            await page.until("document.querySelector('pre').textContent.includes('rate_limit')")
            assert re.search(r"\(in \d+ s\)$", await page.run("return document.querySelector('pre').textContent"))


@pytest.mark.parametrize(
    ("origin", "served"),
    [
        *(("http://localhost:3000", True), ("http://127.0.0.1:8888", True), ("app://obsidian.md", True)),
        *(("file://", True), ("tauri://localhost", True), ("vscode-webview://1a2b", True), ("null", False)),
        *(("http://tauri.localhost", False), ("chrome-extension://abcdefghijklmnop", False)),
        *(("moz-extension://1b2c", False), ("https://chat.example.com", False)),
    ],
)
async def test_the_origins_of_the_guide_are_served_as_it_says(origin: str, served: bool) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    async with Ollama() as sim:
        async with running(sim.url) as proxy:
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT, headers)).status == (200 if served else 403)
        if not served and origin != "null":
            async with running(sim.url, middleware=["logging", {"cors": {"origins": [origin]}}]) as proxy:
                answer = await ask(proxy.address, "POST", "/api/chat", CHAT, headers)
                assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)


@pytest.mark.usefixtures("_chromium")
async def test_a_backends_page_cannot_read_the_key_that_the_ops_page_keeps() -> None:
    html = b"<!doctype html><script>document.title = sessionStorage.getItem('key')</script>"
    for kind in (b"text/html", b"image/svg+xml", b"text/xml", b""):
        script = always(reply(html, b"Content-Type: " + kind))
        async with backend(script) as host, running(host.url) as proxy, browser() as page:
            await page.open(proxy.url + "/-/docs")
            await page.run("sessionStorage.setItem('key', 'canary')")
            await page.open(proxy.url + "/api/tags")
            assert await page.run("return document.title") == "", kind
            assert "<script>" in await page.text(), kind
