"""The simulated Ollama as tests, demo and benchmark use it."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Self

from proxy.simulator.faults import Fault, Kind
from proxy.simulator.host import Host
from proxy.simulator.listener import Listener
from proxy.simulator.request import Request
from proxy.simulator.request_handler import RequestHandler
from proxy.simulator.settings import DEFAULT_MODELS, Model, Settings


class Ollama(Host):
    """An Ollama that answers on a real socket and whose models are made up.

    ::

        async with Ollama("llama3.2", token_delay=0.01) as sim:
            ...  # talk to sim.url
            await sim.wait_for(lambda: sim.counters.active == 0)
            assert sim.last.route == "/api/chat"

    It runs in the caller's event loop. `start` and `stop` may be called in turn, on the same port each time; models
    in memory are lost by a stop, those in the store are not.

    Args:
        models: what the store holds in the beginning; `DEFAULT_MODELS` if nothing is given.
        host, port: where to listen; port 0 is a free one, which is then kept.
        unix: path of a unix socket to listen on instead.
        ssl: to speak TLS.
        settings: how it behaves; copied.
        changes: fields of `Settings` to set.

    Attributes:
        settings: may be changed at any time.
        store: models and blobs.
        engine: what is in memory.
        requests: the requests so far, oldest first, as many as ``settings.record``.
        counters: see `Counters`.
        bugs: exceptions of the simulator itself; leaving ``async with`` raises the first.
    """

    def __init__(
        self,
        *models: str | Model,
        host: str = "127.0.0.1",
        port: int = 0,
        unix: str | None = None,
        ssl: ssl.SSLContext | None = None,
        settings: Settings | None = None,
        **changes: Any,
    ) -> None:
        loopback = bool(unix) or host in ("127.0.0.1", "::1", "localhost")
        super().__init__(replace(settings or Settings(), **changes), models or DEFAULT_MODELS, loopback=loopback)
        self._service = RequestHandler(self)
        self._listener = Listener(host, port, unix, ssl, self._service.connection)

    def __repr__(self) -> str:
        state = "listening" if self._listener.listening else "not listening"
        return f"<Ollama {self.url} {state} active={self.counters.active} loaded={list(self.engine.loaded)}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.stop()
        self._listener.close()
        if self.bugs and kind is None:
            raise self.bugs[0]

    @property
    def host(self) -> str:
        """Address it listens on."""
        return self._listener.host

    @property
    def port(self) -> int:
        """Port it listens on; 0 until the first `start` if it was to be a free one."""
        return self._listener.port

    @property
    def unix(self) -> str | None:
        """Path of the unix socket, if it is one."""
        return self._listener.unix

    @property
    def url(self) -> str:
        """Return its URL without a slash at the end; for a unix socket only the Host to send."""
        if self.unix:
            return "http://localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._listener.tls else 'http'}://{host}:{self.port}"

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. A port that was free once is kept until ``async with`` ends, so that a restart finds it again."""
        await self._listener.listen()

    async def stop(self) -> None:
        """Stop listening, reset every connection, and drop every model from memory."""
        self._listener.refuse()
        tasks = [task for connection in self._service.connections if (task := connection.cancel())]
        for connection in list(self._service.connections):
            connection.reset()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.wait_for(lambda: not self._service.connections)
        self.engine.unload_all()

    async def refuse(self) -> None:
        """Stop listening: new connections are refused, those that are open go on."""
        self._listener.refuse()
        await asyncio.sleep(0)  # lets the loop take the socket out of its selector

    async def blackhole(self) -> None:
        """Let new connections hang, as with a host that is switched off. TCP on Linux only."""
        self._listener.blackhole()
        await asyncio.sleep(0)

    async def accept(self) -> None:
        """Listen again after `refuse` or `blackhole`."""
        await self.start()

    def drop(self, *, reset: bool = True) -> int:
        """Close every open connection, by RST or by FIN, and return how many there were."""
        connections = list(self._service.connections)
        for connection in connections:
            connection.cancel()
            connection.reset() if reset else connection.close()
        return len(connections)

    def unload(self) -> None:
        """Drop every unused model from memory."""
        self.engine.unload_all()

    def finish_batches(self) -> None:
        """End the batches that runners still work on for clients that have left; see ``Settings.batch``."""
        self.engine.finish_batches()

    # -- what tests read ----------------------------------------------------------------------------------------------

    @property
    def last(self) -> Request:
        """The request that came last."""
        return self.requests[-1]

    def seen(self, route: str) -> list[Request]:
        """Return the requests to a route's pattern."""
        return [request for request in self.requests if request.route == route]

    # -- faults ------------------------------------------------------------------------------------------------------

    def fault(
        self,
        kind: Kind,
        route: str | None = None,
        *,
        when: Callable[[Request], bool] | None = None,
        times: int | None = 1,
        **options: Any,
    ) -> Fault:
        """Arm a fault and return it; see `Fault` for the kinds' options."""
        return self._service.faults.arm(Fault(kind=kind, route=route, when=when, times=times, **options))

    def script(
        self,
        *parts: bytes,
        route: str | None = None,
        when: Callable[[Request], bool] | None = None,
        times: int | None = 1,
        delay: float = 0.0,
        finish: Literal["close", "reset", "keep", "hang"] = "close",
    ) -> Fault:
        """Answer the next requests with these bytes, one write each, `delay` seconds apart."""
        return self.fault("script", route, when=when, times=times, parts=parts, delay=delay, finish=finish)

    def clear(self) -> None:
        """Disarm every fault, and let go of what they hold."""
        self._service.faults.clear()
