"""The ops page in a real Chromium, in front of simulated hosts."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.ops.app import ASSETS
from proxy.server.server import serve
from proxy.simulator import Ollama
from proxy.wiring import server_options
from tests.conftest import Need
from tests.support.browser import CHROMEDRIVER, CHROMIUM, Browser, browser
from tests.support.journals import claim, entry
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask, request

CHAT: Final[dict[str, Any]] = {
    "model": "llama3.2",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
}
ROW: Final = "document.querySelector(`#requests tr[data-request='${a[0]}']`)"
RECENT: Final = "document.querySelector(`#recent tr[data-request='${a[0]}']`)"
LIVE: Final = "document.querySelector('#connection').dataset.state === 'live'"
TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"


@pytest.fixture(autouse=True)
def _chromium(need: Need) -> None:
    need("chromium with chromium-driver", bool(CHROMIUM and CHROMEDRIVER))


@asynccontextmanager
async def shown(proxy: Running) -> AsyncIterator[Browser]:
    """The page, open and live; nothing may be wrong in its console at the end."""
    async with browser() as page:
        await page.look(1280, 900, scheme="light")
        await page.open(proxy.url + "/-/")
        await page.until(LIVE)
        yield page
        assert await page.complaints() == []


async def stream(proxy: Running, **body: Any) -> tuple[Client, str]:
    """Begin a request; return its client, behind the first chunk, and its id."""
    client = await Client.connect(proxy.address)
    await client.send(request("POST", "/api/chat", {**CHAT, **body}))
    head = await client.read_head()
    await client.read_chunk()
    return client, head.headers["x-request-id"]


async def cells(page: Browser, row: str, request_id: str) -> list[str]:
    script = f"const a = arguments; return [...({row}).cells].map(c => c.textContent)"
    found: list[str] = await page.run(script, request_id)
    return found


async def test_a_request_appears_streams_and_finishes() -> None:
    async with (
        Ollama(tokens=60, token_delay=0.05) as sim,
        running(sim.url, watched=True) as proxy,
        shown(proxy) as page,
    ):
        client, request_id = await stream(proxy)
        await page.until(f"{ROW}?.cells[4].textContent === 'answering'", request_id)  # 'starting' before
        assert (await cells(page, ROW, request_id))[:5] == [
            "127.0.0.1",
            "llama3.2:latest",
            "/api/chat",
            "b1",
            "answering",
        ]
        tokens = f"Number({ROW}.cells[8].textContent)"
        before = await page.until(tokens, request_id)
        assert await page.until(f"{tokens} > a[1] ? {tokens} : 0", request_id, before) > before
        while await client.read_chunk():
            pass
        await client.close()
        await page.until(f"!{ROW} && {RECENT}", request_id)
        done = await cells(page, RECENT, request_id)
        assert done[4:6] == ["b1 (only)", "completed 200"]
        assert done[9] == "60"
        assert "llama3.2:latest" in await page.text("#backends .models")


async def test_cancel_stops_it_at_the_backend() -> None:
    async with Ollama(tokens=5000, token_delay=0.02) as sim, running(sim.url) as proxy, shown(proxy) as page:
        client, request_id = await stream(proxy)
        await page.until(f"{ROW}.cells[1].textContent === 'llama3.2:latest'", request_id)
        await page.click(f"#requests tr[data-request='{request_id}'] button")
        await page.until("document.querySelector('#confirm').open")
        assert "llama3.2:latest" in await page.text("#confirm-text")
        await page.press(ESCAPE)
        await page.until("!document.querySelector('#confirm').open")
        assert sim.counters.active == 1
        await page.click(f"#requests tr[data-request='{request_id}'] button")
        await page.click("#confirm-yes")
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert sim.counters.cancelled == 1
        await page.until(RECENT, request_id)
        assert "cancelled" in (await cells(page, RECENT, request_id))[5]
        assert "cancelled" in await page.run("return document.querySelector('#news').textContent")
        await client.close()


async def test_a_killed_host_turns_red_within_its_health_interval() -> None:
    every = 5.0
    pool = {"health": {"every": f"{every:g}s", "timeout": "500ms", "down_after": 3}}
    async with (
        Ollama() as one,
        Ollama() as two,
        running(one.url, two.url, watched=True, pool=pool) as proxy,
        shown(proxy) as page,
    ):
        card = "[...document.querySelectorAll('#backends .card')].find(c => c.textContent.startsWith(a[0]))"
        await page.until(f"{card}.dataset.state === 'up' && {card}.textContent.includes('0.33.0')", "b1")
        await one.stop()
        killed = asyncio.get_running_loop().time()
        await page.until(f"{card}.dataset.state === 'down'", "b1", timeout=20)
        assert asyncio.get_running_loop().time() - killed < every
        red = await page.run(
            "const card = document.querySelector('#backends .card[data-state=down]');"
            "return getComputedStyle(card).borderLeftColor"
        )
        assert red == "rgb(188, 47, 47)"
        assert await page.run("return document.title") == "(1 down) ollama-proxy"
        assert "b1 is down" in await page.run("return document.querySelector('#news').textContent")
        await one.start()
        await page.until(f"{card}.dataset.state === 'up'", "b1", timeout=20)


async def test_it_comes_back_by_itself_when_the_connection_was_lost() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, shown(proxy) as page:
        await proxy.server.drain(0)
        await page.until("document.querySelector('#connection').dataset.state === 'lost'")
        assert await page.run("return document.querySelector('main').classList.contains('stale')")
        assert "next try in" in await page.text("#connection")
        await page.complaints()  # refused connections, which the browser logs
        again = server_options(proxy.app.settings)
        object.__setattr__(again, "listen", [proxy.server.addresses[0]])
        async with serve(proxy.app.frame, again):
            await page.until(LIVE, timeout=20)
            assert not await page.run("return document.querySelector('main').classList.contains('stale')")
            await page.complaints()
            await page.command("POST", "url", {"url": "about:blank"})


async def test_signing_in_with_a_key_of_class_ops(tmp_path: Path) -> None:
    made = {}
    for name, policy in (("alice", None), ("op", "operators")):
        made[name], entry = new_key(name, now=0, policy=policy)
        add_key(tmp_path / "keys.yaml", entry)
    async with (
        Ollama() as sim,
        running(
            sim.url,
            middleware=[{"auth": {"keys": "keys.yaml"}}, "access"],
            policies={"operators": {"access": {"routes": ["read", "ops"]}}},
            folder=tmp_path,
        ) as proxy,
        browser() as page,
    ):
        await page.open(proxy.url + "/-/")
        await page.until("document.querySelector('#login').open && document.activeElement.id === 'key'")
        assert "Nothing is running." not in await page.text("body"), "who is not signed in is told nothing, not nothing"
        await page.press(*made["alice"], ENTER)
        await page.until("document.querySelector('#login-error').textContent.includes('not allowed')")
        await page.press(*made["op"], ENTER)
        await page.until(LIVE)
        assert not await page.run("return document.querySelector('#login').open")
        assert made["op"] not in await page.run("return document.documentElement.outerHTML + location.href")
        assert await page.run("return sessionStorage.length") == 1
        await page.open(proxy.url + "/-/")
        await page.until(LIVE)
        await page.click("#sign-out")
        await page.until("document.querySelector('#login').open")
        assert await page.run("return sessionStorage.length") == 0


async def test_draining_and_unloading() -> None:
    async with Ollama() as sim, running(sim.url, watched=True) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        async with shown(proxy) as page:
            await page.click("#backends .models button")
            await page.click("#confirm-yes")
            await sim.wait_for(lambda: not sim.engine.loaded)
            await page.until("!document.querySelector('#backends .models li')")
            await page.click("#backends .head button")
            await page.click("#confirm-yes")
            await page.until("document.querySelector('#backends .card').dataset.state === 'draining'")
            await page.until("document.querySelector('#connection').textContent.includes('no backend can be used')")
            await page.click("#backends .head button")
            await page.until("document.querySelector('#backends .card').dataset.state === 'up'")


async def test_by_keyboard_alone() -> None:
    async with Ollama(tokens=5000, token_delay=0.02) as sim, running(sim.url) as proxy, shown(proxy) as page:
        client, request_id = await stream(proxy)
        await page.until(ROW, request_id)
        await page.press(TAB)
        assert await page.run("return document.activeElement.className") == "skip"
        await page.press(ENTER)
        assert await page.run("return document.activeElement.id") == "running"
        focus = f"{ROW}.contains(document.activeElement)"
        for _ in range(3):
            await page.press(TAB)
            if await page.run(f"const a = arguments; return {focus}", request_id):
                break
        assert await page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tokens = f"Number({ROW}.cells[8].textContent)"
        before = await page.until(tokens, request_id)
        await page.until(f"{tokens} > a[1]", request_id, before)
        assert await page.run(f"const a = arguments; return {focus}", request_id), "an update took the focus away"
        await page.press(ENTER)
        await page.until("document.activeElement.closest('#confirm')")
        assert await page.run("return document.activeElement.value") == "no"
        await page.press(TAB, ENTER)
        await sim.wait_for(lambda: sim.counters.active == 0)
        await client.close()


async def test_what_a_screen_reader_is_told() -> None:
    async with Ollama(tokens=5000, token_delay=0.02) as sim, running(sim.url) as proxy, shown(proxy) as page:
        client, request_id = await stream(proxy)
        await page.until(ROW, request_id)
        for width in (1280, 390):
            await page.look(width, 844, scheme="light", phone=width < 800)
            tree = await page.devtools("Accessibility.getFullAXTree")
            roles: dict[str, list[str]] = {}
            for node in tree["nodes"]:
                if not node.get("ignored"):
                    name = node.get("name", {}).get("value", "")
                    roles.setdefault(node["role"]["value"], []).append(name)
            assert {"banner", "main", "navigation", "contentinfo", "status"} <= roles.keys()
            assert "Running requests 1" in roles["region"]
            assert roles["table"]
            assert {"Who", "Model", "Tokens/s"} <= set(roles["columnheader"]), width
            assert "llama3.2:latest" in roles["cell"], width
            assert "Cancel the request of 127.0.0.1" in roles["button"]
            assert "" not in roles["button"]
        await client.close()


async def test_nothing_is_wider_than_a_phone() -> None:
    endless = Ollama(tokens=5000, token_delay=0.02)
    async with endless as sim, running(sim.url, watched=True) as proxy, shown(proxy) as page:
        client, request_id = await stream(proxy)
        await page.until(ROW, request_id)
        await page.look(360, 740, scheme="dark", phone=True)
        await page.until("innerWidth === 360")
        assert await page.run("return document.documentElement.scrollWidth") == 360
        await client.close()


async def test_the_theme_is_the_systems_until_one_is_chosen() -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor === a[0]"
    light, dark = "rgb(246, 247, 249)", "rgb(20, 22, 26)"
    async with Ollama() as sim, running(sim.url) as proxy, shown(proxy) as page:
        await page.until(ground, light)
        await page.look(1280, 900, scheme="dark")
        await page.until(ground, dark)
        for chosen in (light, dark):
            await page.click("#theme")
            await page.until(ground, chosen)
        await page.look(1280, 900, scheme="light")
        await page.open(proxy.url + "/-/")
        await page.until(LIVE)
        await page.until(ground, dark)
        await page.click("#theme")
        await page.until(ground, light)


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = color.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(scheme: str) -> None:
    style = ASSETS["page.css"].decode()
    colors = {
        name: (light, dark)[scheme == "dark"]
        for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", style)
    }
    pairs = [(text, ground) for text in ("text", "quiet", "accent", "bad") for ground in ("ground", "card")]
    pairs += [(name, f"{name}-ground") for name in ("good", "warn", "bad")]
    pairs += [("quiet", "calm-ground"), ("accent", "fill")]
    for text, ground in pairs:
        light, dark = sorted((luminance(colors[text]), luminance(colors[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {ground}"


async def test_what_strangers_write_is_text(tmp_path: Path) -> None:
    name = "<img src=x onerror=\"document.title='owned'\">"
    key, entry = new_key(name, now=0, tenant=name)
    add_key(tmp_path / "keys.yaml", entry)
    auth = {"auth": {"keys": "keys.yaml", "addresses": [{"network": "127.0.0.1", "identity": "me"}]}}
    limit = {"rate_limit": {"requests": "9/minute"}}
    async with (
        Ollama(version=name) as sim,
        running(sim.url, middleware=[auth, limit], folder=tmp_path, watched=True) as proxy,
        shown(proxy) as page,
    ):
        await ask(proxy.address, "POST", "/api/chat", CHAT, {"Authorization": f"Bearer {key}"})
        await page.until("document.querySelector('#recent').textContent.includes(a[0])", name)
        await page.until("document.querySelector('#limits').textContent.includes(a[0])", name)
        await page.until("document.querySelector('#backends').textContent.includes(a[0])", name)
        assert not await page.run("return document.querySelectorAll('main img').length")
        assert await page.run("return document.title") == "ollama-proxy"


async def test_the_browser_runs_no_script_but_the_pages_own() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, shown(proxy) as page:
        assert await page.run(
            "const script = document.createElement('script'); script.textContent = 'window.owned = 1';"
            "document.body.append(script); return window.owned === undefined"
        )
        (complaint,) = await page.complaints()
        assert "Content Security Policy" in complaint


async def test_the_api_is_readable() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, browser() as page:
        await page.open(proxy.url + "/-/docs")
        await page.until("document.querySelectorAll('details').length > 40")
        text = await page.text()
        for words in ("/-/cancel/{id}", "/api/chat", "Answer a conversation", "Whether requests can be served"):
            assert words in text
        assert await page.complaints() == []


def test_ci_has_a_browser() -> None:
    if os.environ.get("CI"):
        assert CHROMIUM
        assert CHROMEDRIVER


async def test_deferred_requests_are_cancelled_and_tried_again() -> None:
    entry_row = "document.querySelector(`#deferred tr[data-entry='${a[0]}']`)"
    async with Ollama() as sim, running(sim.url) as proxy:
        journal = proxy.app.journal
        async with shown(proxy) as page:
            await page.until("document.querySelector('#main').getAttribute('aria-busy') === 'false'")
            assert await page.run("return document.querySelector('#deferred-section').hidden")
            await journal.add(entry(body=b"my secret words", priority=1))
            held = await claim(journal)
            await journal.finish(held, "dead", error="dead: my secret words")
            name = held.entry.id
            await page.until(f"{entry_row}?.cells[5].textContent === 'dead'", name)
            assert (await cells(page, entry_row, name))[1:8] == [
                *("ann", "request", "m", "/api/chat", "dead", "dead", "1")
            ]
            assert "1 dead" in await page.text("#deferred-count")
            await page.click(f"#deferred tr[data-entry='{name}'] button")
            await page.until(f"{entry_row}.cells[5].textContent === 'queued'", name)
            await page.click(f"#deferred tr[data-entry='{name}'] button")
            await page.until("document.querySelector('#confirm').open")
            await page.click("#confirm-yes")
            await page.until(f"{entry_row}.cells[5].textContent === 'cancelled'", name)
            assert "secret" not in await page.run("return document.body.textContent")
