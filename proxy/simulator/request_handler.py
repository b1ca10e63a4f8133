"""Answers the requests of all connections: counts them, arms faults, routes them, and notes how they ended."""

import asyncio
from typing import Final

from proxy.simulator import routes
from proxy.simulator.faults import Faults
from proxy.simulator.faulty_replies import REPLIES
from proxy.simulator.host import Host
from proxy.simulator.http_connection import Connection
from proxy.simulator.http_reply import Reply, Struck
from proxy.simulator.request import ClientGone, Request, State

CONTROL: Final = "/_sim/counters"
READ_AHEAD: Final = 256 * 1024  # Go reads so much of a body that nobody wanted, to keep the connection


class RequestHandler:
    """Serves one host.

    Attributes:
        faults: the faults that are armed.
        connections: those that are open.
    """

    def __init__(self, host: Host) -> None:
        self.faults = Faults()
        self.connections: set[Connection] = set()
        self._host = host

    def connection(self) -> Connection:
        """Return the protocol of the next connection."""
        return Connection(self._host, self, self._host.counters.connections + 1)

    def opened(self, connection: Connection) -> float:
        """Note a new connection; return the seconds for which it is not to be read."""
        self.connections.add(connection)
        self._host.counters.connections += 1
        self._host.counters.connections_open += 1
        self._host.changed()
        return self.faults.take_slow_accept()

    def closed(self, connection: Connection) -> None:
        """Note that a connection is closed for good."""
        self.connections.discard(connection)
        self._host.counters.connections_open -= 1
        self._host.changed()

    def arrived(
        self, connection: Connection, method: str, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> Request:
        """Return the request of a head that is complete; one for the control surface is not counted."""
        host = self._host
        number = host.counters.requests + 1
        request = Request(number, connection.number, connection.peer[1], method, target, headers)
        if self._controls(request):
            return request
        host.counters.requests = number
        if route := routes.match(method, request.path):
            request.route, request.parameters = route.pattern, route.parameters
            request.streamed = (method, route.pattern) == routes.UPLOAD
            host.counters.by_route[route.pattern] += 1
        host.requests.append(request)
        host.changed()
        return request

    async def serve(self, connection: Connection, request: Request) -> bool:
        """Answer a request; return whether the connection goes on."""
        host, counters = self._host, self._host.counters
        if self._controls(request):
            await Reply(connection, request).json(counters.snapshot())
            return request.keep_alive
        counters.active += 1
        counters.max_active = max(counters.max_active, counters.active)
        host.changed()
        state: State = "failed"
        keep = False
        try:
            keep = await self._answer(connection, request)
            state = "done"
        except ClientGone:
            state = "cancelled" if connection.gone else "failed"
        except asyncio.CancelledError:
            if not connection.gone:
                raise
            state = "cancelled"
        except Struck as struck:
            keep = struck.keep
        except Exception as bug:
            host.broken(bug)
            connection.reset()
        finally:
            counters.active -= 1
            if state == "cancelled":
                host.abandoned(request)
            request.state = state
            host.changed()
        return keep

    async def _answer(self, connection: Connection, request: Request) -> bool:
        """Answer by the route, or by the fault that strikes; return whether the connection goes on."""
        if not request.streamed and (request.route or _small(request)):
            await request.read()
        reply = Reply(connection, request)
        if fault := self.faults.take(request):
            self._host.counters.faults += 1
            request.fault = fault.kind
            reply = REPLIES[fault.kind](connection, request, fault)
            self._host.changed()
        if not await reply.before():
            await routes.answer(self._host, request, reply, routes.match(request.method, request.path))
        return not reply.close_after

    def _controls(self, request: Request) -> bool:
        """Return whether the request is for the simulator itself, where the settings allow such a path."""
        return self._host.settings.control and request.method == "GET" and request.path == CONTROL


def _small(request: Request) -> bool:
    """Return whether an unwanted body is short enough to be read all the same."""
    return not request.chunked and int(request.header("content-length") or 0) <= READ_AHEAD
