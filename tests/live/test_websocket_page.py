"""The example page in a real Chromium: it chats over a WebSocket, and goes on after a lost connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.backend import always, backend, reply
from tests.support.browser import CHROMEDRIVER, CHROMIUM, Browser, browser
from tests.support.proxy import Running, running

PAGE: Final = (Path(__file__).parents[2] / "docs/examples/chat.html").read_text("utf-8")
ANSWERED: Final = "!document.querySelector('#send').disabled"


@pytest.fixture
def _chromium(need: Need) -> None:
    need("chromium and chromedriver", CHROMIUM is not None and CHROMEDRIVER is not None)


@asynccontextmanager
async def chat(proxy: Running, key: str = "") -> AsyncIterator[Browser]:
    """The page, from a server of its own on this machine, that talks with the proxy."""
    html = PAGE.replace("ws://127.0.0.1:11435", proxy.url.replace("http:", "ws:"))
    async with backend(always(reply(html.encode(), b"Content-Type: text/html"))) as site, browser() as page:
        await page.open(site.url.replace("127.0.0.1", "localhost") + "/chat.html")
        await page.run("document.querySelector('#key').value = arguments[0]", key)
        yield page


async def say(page: Browser, text: str) -> None:
    await page.type("#text", text)
    await page.click("#send")


def spoken(message: dict[str, Any]) -> tuple[str, str]:
    return message["role"], message["content"]


@pytest.mark.usefixtures("_chromium")
async def test_it_chats_and_remembers_what_was_said(tmp_path: Path) -> None:
    key, entry = new_key("ada", now=0)
    add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml"}}]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy, chat(proxy, key) as page:
        await say(page, "my name is Ada")
        await page.until(ANSWERED)
        first = await page.run("return document.querySelector('.assistant').textContent")
        assert first
        await say(page, "what is it?")
        await page.until(f"{ANSWERED} && document.querySelectorAll('.assistant').length === 2")
        asked = [spoken(message) for message in sim.last.json()["messages"]]
        assert asked == [("user", "my name is Ada"), ("assistant", first), ("user", "what is it?")]
        assert proxy.server.open_connections == 1
        assert await page.complaints() == []


@pytest.mark.usefixtures("_chromium")
async def test_an_answer_goes_on_after_the_connection_was_lost() -> None:
    async with Ollama(token_delay=0.02, tokens=60) as sim, running(sim.url) as proxy, chat(proxy) as page:
        await say(page, "tell me something long")
        await page.until("document.querySelector('.assistant').textContent.length > 10")
        for connection in proxy.server._connections():
            connection.transport.abort()
        await page.until("document.querySelector('#state').textContent.includes('1006')")
        lost = await page.run("return document.querySelector('.assistant').textContent")
        sim.settings.token_delay = 0.0
        await page.until(ANSWERED)
        told = await page.run("return document.querySelector('.assistant').textContent")
        assert told.startswith(lost)
        assert len(told) > len(lost)
        assert [spoken(message) for message in sim.last.json()["messages"]] == [
            ("user", "tell me something long"),
            ("assistant", lost),
        ]
        assert len(sim.seen("/api/chat")) == 2


@pytest.mark.usefixtures("_chromium")
async def test_stop_stops_the_generation_and_an_error_is_shown() -> None:
    async with Ollama(token_delay=0.01, tokens=100_000) as sim, running(sim.url) as proxy, chat(proxy) as page:
        await say(page, "hi")
        await page.until("document.querySelector('.assistant').textContent")
        await page.click("#stop")
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        await page.until(ANSWERED)
        assert await page.text("#state") == "Stopped."
        await page.run("document.querySelector('#model').value = 'nobody-has-it'")
        await say(page, "hi")
        await page.until("document.querySelector('#state').textContent.includes('not found (404 upstream_error)')")
