"""The simulated Ollama as tests, demo and benchmark use it."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Literal, Self

from proxy.simulator import routes
from proxy.simulator.engine import Engine
from proxy.simulator.faults import Fault, Faults, Kind
from proxy.simulator.faulty import REPLIES
from proxy.simulator.listener import Listener
from proxy.simulator.records import ClientGone, Counters, Request, State
from proxy.simulator.reply import Reply, Struck
from proxy.simulator.settings import DEFAULT_MODELS, Model, Settings
from proxy.simulator.store import Store
from proxy.simulator.wire import Connection

CONTROL: Final = "/_sim/counters"
READ_AHEAD: Final = 256 * 1024  # Go reads so much of a body that nobody wanted, to keep the connection


class Ollama:
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
        self.settings = replace(settings or Settings(), **changes)
        self.store = Store(models or DEFAULT_MODELS)
        self.counters = Counters()
        self.engine = Engine(self.settings, self.counters, self.changed)
        self.requests: deque[Request] = deque(maxlen=self.settings.record)
        self.bugs: list[BaseException] = []
        self._faults = Faults()
        self._listener = Listener(host, port, unix, ssl, self._connection)
        self._connections: set[Connection] = set()
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        state = "listening" if self._listener.listening else "not listening"
        return f"<Ollama {self.url} {state} active={self.counters.active} loaded={list(self.engine.loaded)}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _: object, trace: TracebackType | None) -> None:
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
        """Where to reach it, without a slash at the end. For a unix socket only the Host to send."""
        if self.unix:
            return "http://localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._listener.tls else 'http'}://{host}:{self.port}"

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. A port that was free once is kept until ``async with`` ends, so that a restart finds it again."""
        await self._listener.listen()

    async def stop(self) -> None:
        """Be gone: no listener, every connection reset, nothing in memory."""
        self._listener.refuse()
        tasks = [task for connection in self._connections if (task := connection.cancel())]
        for connection in list(self._connections):
            connection.reset()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.wait_for(lambda: not self._connections)
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
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
            connection.reset() if reset else connection.close()
        return len(connections)

    def unload(self) -> None:
        """Drop every model from memory that nobody uses."""
        self.engine.unload_all()

    # -- what tests see ----------------------------------------------------------------------------------------------

    @property
    def last(self) -> Request:
        """The request that came last."""
        return self.requests[-1]

    def seen(self, route: str) -> list[Request]:
        """Return the requests to a route's pattern."""
        return [request for request in self.requests if request.route == route]

    async def wait_for(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        """Return once `condition` holds; it is tried after every change of anything that can be seen here.

        A condition that raises LookupError does not hold yet: ``sim.last`` before there is a request.

        Raises:
            TimeoutError: it did not hold within `timeout` seconds; the text shows the counters.
        """
        if _holds(condition):
            return
        waiter = (condition, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter[1]
        except TimeoutError:
            raise TimeoutError(f"not within {timeout} s; {self.counters}") from None
        finally:
            self._waiters.remove(waiter)

    def changed(self) -> None:
        """Wake those whose condition now holds."""
        for condition, future in self._waiters:
            if not future.done() and _holds(condition):
                future.set_result(None)

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
        return self._faults.arm(Fault(kind=kind, route=route, when=when, times=times, **options))

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
        self._faults.clear()

    # -- what connections and handlers call --------------------------------------------------------------------------

    @property
    def checks_host(self) -> bool:
        """Whether unknown Hosts are refused: Ollama does so on loopback only."""
        return self.settings.check_host and (bool(self.unix) or self.host in ("127.0.0.1", "::1", "localhost"))

    def opened(self, connection: Connection) -> float:
        """Note a connection, and return for how many seconds it is not to be read."""
        self._connections.add(connection)
        self.counters.connections += 1
        self.counters.connections_open += 1
        self.changed()
        return self._faults.take_slow_accept()

    def closed(self, connection: Connection) -> None:
        """Note that a connection is closed for good."""
        self._connections.discard(connection)
        self.counters.connections_open -= 1
        self.changed()

    def arrived(
        self, connection: Connection, method: str, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> Request:
        """Note a request whose head is complete; one for the control surface is not counted."""
        number = self.counters.requests + 1
        request = Request(number, connection.number, connection.peer[1], method, target, headers)
        if self._controls(request):
            return request
        self.counters.requests = number
        if route := routes.match(method, request.path):
            request.route, request.parameters = route.pattern, route.parameters
            request.streamed = (method, route.pattern) == routes.UPLOAD
            self.counters.by_route[route.pattern] += 1
        self.requests.append(request)
        self.changed()
        return request

    def sent(self, request: Request, data: bytes) -> None:
        """Note a chunk of an answer's body that goes to the wire."""
        request.sent_chunks += 1
        if self.settings.record:
            request.sent.append(data)
        self.changed()

    def generated(self) -> None:
        """Note that a model has made one token."""
        self.counters.tokens_generated += 1
        self.changed()

    def delivered(self, request: Request, tokens: int) -> None:
        """Note tokens that were written to an open connection."""
        request.tokens += tokens
        self.counters.tokens_delivered += tokens
        self.changed()

    def forsaken(self, request: Request) -> None:
        """Note that a request's client left before it was answered."""
        request.state = "cancelled"
        self.counters.cancelled += 1
        self.changed()

    async def serve(self, connection: Connection, request: Request) -> bool:
        """Answer a request; return whether the connection goes on."""
        if self._controls(request):
            await Reply(connection, request).json(self.counters.snapshot())
            return request.keep_alive
        counters = self.counters
        counters.active += 1
        counters.max_active = max(counters.max_active, counters.active)
        self.changed()
        reply: Reply = Reply(connection, request)
        state: State = "failed"
        keep = False
        try:
            if not request.streamed and (request.route or _small(request)):
                await request.read()
            if fault := self._faults.take(request):
                counters.faults += 1
                request.fault = fault.kind
                reply = REPLIES[fault.kind](connection, request, fault)
                self.changed()
            if not await reply.before():
                await routes.answer(self, request, reply, routes.match(request.method, request.path))
            state, keep = "done", not reply.close_after
        except ClientGone:
            state = "cancelled" if connection.gone else "failed"
        except asyncio.CancelledError:
            if not connection.gone:
                raise
            state = "cancelled"
        except Struck as struck:
            keep = struck.keep
        except Exception as bug:
            self.broken(bug)
            connection.reset()
        finally:
            counters.active -= 1
            if state == "cancelled":
                self.forsaken(request)
            request.state = state
            self.changed()
        return keep

    def broken(self, bug: BaseException) -> None:
        """Note an exception that should not have been."""
        self.bugs.append(bug)
        asyncio.get_running_loop().call_exception_handler({"message": "a bug in the simulator", "exception": bug})

    # -- inner -------------------------------------------------------------------------------------------------------

    def _connection(self) -> Connection:
        return Connection(self, self.counters.connections + 1)

    def _controls(self, request: Request) -> bool:
        """Whether this asks the simulator itself: a path that no Ollama has, served when the settings say so."""
        return self.settings.control and request.method == "GET" and request.path == CONTROL


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except LookupError:
        return False


def _small(request: Request) -> bool:
    """Whether a body that nobody wants is short enough to be read all the same."""
    return not request.chunked and int(request.header("content-length") or 0) <= READ_AHEAD
