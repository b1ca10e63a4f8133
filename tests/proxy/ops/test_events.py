"""proxy/ops/events.py."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from proxy.ops import events
from proxy.ops.events import BACKLOG, Listener
from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": []}


class Stream:
    """The events of a hub, one after another."""

    def __init__(self, source: AsyncGenerator[bytes, None]) -> None:
        self.source = source
        self._rest: list[bytes] = []

    async def next(self) -> tuple[str, Any]:
        while not self._rest:
            async with asyncio.timeout(5):
                self._rest = [event for event in (await anext(self.source)).split(b"\n\n") if event]
        name, data = self._rest.pop(0).split(b"\n")
        return name.removeprefix(b"event: ").decode(), orjson.loads(data.removeprefix(b"data: "))

    async def until(self, wanted: str) -> Any:
        while True:
            name, data = await self.next()
            if name == wanted:
                return data


def listen(proxy: Running) -> Stream:
    return Stream(proxy.app.ops.hub.listen())


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVERY", 0.02)


async def test_everything_first_then_ticks_without_what_rarely_changes() -> None:
    async with Ollama() as sim, running(sim.url, watched=True) as proxy:
        await sim.wait_for(lambda: sim.seen("/api/ps"))
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        stream = listen(proxy)
        name, status = await stream.next()
        assert name == "status"
        assert [request["route"] for request in status["recent"]] == ["/api/chat"]
        tick = await stream.until("tick")
        assert tick["recent"] is None
        assert tick["backends"][0]["models"] is None
        await stream.source.aclose()


async def test_nothing_is_made_while_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        made: list[str] = []

        def written(name: str, document: object) -> bytes:
            made.append(name)
            return b""

        monkeypatch.setattr(events, "written", written)
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        proxy.app.pool.changed()
        stream = listen(proxy)
        assert await anext(stream.source) == b""
        await stream.source.aclose()
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert made == ["status"]
        assert proxy.app.ops.hub._ticking is None


async def test_a_backend_that_changes_its_state_is_told_at_once() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        stream = listen(proxy)
        await stream.next()
        proxy.app.pool.backends[0].health.draining = True
        proxy.app.pool.changed()
        change = await stream.until("backend")
        assert (change["name"], change["before"], change["state"]) == ("b1", "up", "draining")
        await stream.source.aclose()


async def test_a_policy_file_that_was_loaded_is_told() -> None:
    class Loader:
        last: Any = None

        async def ask(self) -> Any:
            raise NotImplementedError

    class Loading:
        generation, problems, restart = 7, ("a mistake",), ()

    async with Ollama() as sim, running(sim.url) as proxy:
        proxy.app.reloader = loader = Loader()
        stream = listen(proxy)
        await stream.next()
        loader.last = Loading()
        told = await stream.until("config")
        assert told == {"generation": 7, "problems": ["a mistake"], "restart": []}
        await stream.source.aclose()


async def test_listeners_are_sent_away_when_the_server_stops() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        stream = listen(proxy)
        await stream.next()
        proxy.app.server = proxy.server
        proxy.server.serving = False
        await stream.until("bye")
        with pytest.raises(StopAsyncIteration):
            await anext(stream.source)
        proxy.server.serving = True


async def test_what_happened_last_is_told_to_a_slow_one_too() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        stream = listen(proxy)
        await stream.next()
        proxy.app.ops.hub.tell("finished", {"id": "last"})
        proxy.app.ops.hub.close()
        assert [name async for name in names(stream)][-2:] == ["finished", "bye"]


async def names(stream: Stream) -> AsyncGenerator[str, None]:
    with suppress(StopAsyncIteration):
        while True:
            yield (await stream.next())[0]


async def test_one_that_falls_behind_is_given_everything_again() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        slow, quick = listen(proxy), listen(proxy)
        await slow.next()
        await quick.next()
        for _ in range(BACKLOG + 1):
            proxy.app.ops.hub.tell("finished", {})
        assert (await slow.next())[0] == "status"
        assert (await quick.next())[0] == "status"
        proxy.app.ops.hub.tell("finished", {})
        assert await slow.until("finished") == {}
        for stream in (slow, quick):
            await stream.source.aclose()


async def test_a_listener_holds_so_much_and_no_more() -> None:
    listener = Listener()
    for number in range(10 * BACKLOG):
        listener.put(b"%d" % number)
    assert len(listener._waiting) <= BACKLOG
    assert await listener.take() == b""
    assert listener.missed


async def test_recent_requests_are_bounded() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        for _ in range(events.KEPT + 5):
            await ask(proxy.address, "GET", "/api/version")
        assert len(proxy.app.ops.hub.recent) == events.KEPT


async def test_a_status_that_fails_ends_the_streams_and_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        stream = listen(proxy)
        await stream.next()
        monkeypatch.setattr(proxy.app.board, "in_use", None)
        await stream.until("bye")
        await proxy.log.wait_for(lambda log: any(event["event"] == "ticks_failed" for event in log.events))
        await stream.source.aclose()
