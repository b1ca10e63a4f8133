"""What is said over one socket: messages in, frames out, and the requests in between, bounded in number."""

import asyncio
from functools import partial
from typing import Any, Final

import structlog

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import ASGIApp, Scope
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.body_contents import LARGE
from proxy.kernel.errors import Cancelled, Flavor, ProxyError, Refused, ShuttingDown, let_go
from proxy.kernel.inner_request import inner_scope
from proxy.kernel.server_extensions import REASON
from proxy.kernel.websocket import Closing, Opening, Socket
from proxy.kernel.worker_threads import off_loop
from proxy.websocket.answer import Answer
from proxy.websocket.request_mode import RequestMode
from proxy.websocket.response_memory import ResponseMemory
from proxy.websocket.response_mode import ResponseMode
from proxy.websocket.socket_request import SocketRequest

_log = structlog.get_logger("ollama_proxy.websocket")
_JSON: Final = (b"content-type", b"application/json")


class Running:
    """A request that runs.

    Attributes:
        answer: its answer.
        scope: the scope of the inner request.
        task: the task that it runs in.
        reason: why it was ended; None unless it was.
    """

    __slots__ = ("answer", "reason", "scope", "task")

    def __init__(self, answer: Answer, scope: Scope) -> None:
        self.answer, self.scope = answer, scope
        self.task: asyncio.Task[None] | None = None
        self.reason: ProxyError | None = None


class SocketSession:
    """The requests of one socket.

    Args:
        socket: the socket.
        opening: the request that opened it; its fields, credentials among them, are those of each message's request.
        app: answers the requests: the frame.
        flavor: the form of errors.
        responses: whether it speaks the Responses API over WebSocket; else its messages are request bodies.
        like: what the scopes of its requests share with that of the handshake.
        bodies: accounts for the memory of messages.
        caller: the caller on whose account they are.
    """

    __slots__ = (
        "_app", "_bodies", "_caller", "_end", "_flavor", "_headers", "_left", "_like", "_memory", "_mode", "_options",
        "_reads", "_running", "_socket", "_target", "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        socket: Socket,
        *,
        opening: Opening,
        app: ASGIApp,
        flavor: Flavor,
        responses: bool,
        like: Scope,
        bodies: BodyBudget,
        caller: str,
    ) -> None:
        self._socket = socket
        # Of the opening only what is needed: it leads to the whole handshake.
        self._target, self._options = (opening.path, opening.query), opening.options
        self._headers = [*opening.headers, _JSON]
        self._app, self._flavor, self._like = app, flavor, like
        self._bodies, self._caller = bodies, caller
        self._running: dict[SocketRequest, Running] = {}
        self._waiting: list[SocketRequest] = []
        self._end: tuple[Closing, str] | None = None
        """How the socket will be closed when nothing runs any more; None unless it is about to end."""
        self._left = self._reads = False
        """Whether the client has left, and whether a long message is being read."""
        self._memory = ResponseMemory(opening.options.memory, self.hold) if responses else None
        self._mode: RequestMode | ResponseMode | None = (
            RequestMode(flavor, self) if self._memory is None else ResponseMode(self, self._memory)
        )

    # The server tells

    def text(self, message: bytes) -> None:
        """Take a whole text message; a long one is read in a thread, and no other is taken meanwhile."""
        if self._mode is None:
            return
        if len(message) < LARGE:
            self._mode.read(message)()
            return
        self._reads = True
        self._bodies.book(len(message), self._caller)  # the server has just accounted for it: there is room
        self._socket.busy(True)
        self._socket.pause()
        self._socket.run(self._read_long(message, self._mode))

    async def _read_long(self, message: bytes, mode: RequestMode | ResponseMode) -> None:
        try:
            act = await off_loop(self._caller, mode.read, message)
        finally:
            self._reads = False
            self._bodies.book(-len(message), self._caller)
            self._socket.go_on()
        if not self._left:
            act()
            self._note_rest()

    def hold(self, change: int) -> None:
        """Account for more or fewer bytes; raises Refused (429, 503)."""
        if change > 0:
            self._bodies.make_room(change, self._caller)
        self._bodies.book(change, self._caller)

    def drain(self, reason: str) -> None:
        """Take no further requests, and close the socket with 1001 when the last answer is out."""
        self._end = self._end or (Closing.GOING_AWAY, reason)
        self._close_if_done()

    def cut(self) -> None:
        """End all requests, and close the socket with 1012."""
        self._end = (Closing.RESTART, "the proxy restarts")
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self.hold(-request.size)
            self.say(request.refusal(self._flavor, ShuttingDown()))
        for running in self._running.values():
            running.reason = ShuttingDown()
            running.scope["state"][REASON] = ShuttingDown()
            if running.task is not None:
                running.task.cancel("shutdown")
        self._close_if_done()

    def gone(self) -> None:
        """Stop all requests: the client has left."""
        self._left = True
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self.hold(-request.size)
        for running in self._running.values():
            running.answer.client.leave()
        if self._memory is not None:
            self._memory.forget()
        self._mode = self._memory = None  # both lead back to here

    # The mode asks

    def start(self, request: SocketRequest) -> None:
        """Run a request when it is its turn; raises Refused."""
        if self._end is not None:
            message = "this socket takes no further requests; open another one"
            raise Refused(503, message, code=codes.SHUTDOWN, headers={"retry-after": "1"})
        if request.named and any(one.lane == request.lane for one in (*self._running, *self._waiting)):
            raise Refused(400, "a request with this id runs already; give each request an id of its own")
        if self._may_run(request):
            self._run(request)
            self._note_rest()
            return
        if len(self._waiting) >= self._options.waiting:
            message = f"{len(self._waiting)} requests of this socket wait already"
            raise Refused(429, message, code=codes.SOCKET_BUSY, headers={"retry-after": "1"})
        self.hold(request.size)
        self._waiting.append(request)

    def cancel(self, lane: object) -> None:
        """End the request of that lane, running or waiting."""
        for request, running in self._running.items():
            if request.lane == lane and lane is not None:
                running.reason = _cancelled()
                running.answer.client.leave()
                return
        for request in self._waiting:
            if request.lane == lane and lane is not None:
                self._waiting.remove(request)
                self.hold(-request.size)
                self.say(request.refusal(self._flavor, _cancelled()))
                return

    def say(self, frame: bytes) -> None:
        """Send one frame."""
        self._socket.send(frame)

    # The requests

    def _may_run(self, request: SocketRequest) -> bool:
        free = len(self._running) < self._options.requests
        return free and all(one.lane != request.lane for one in self._running)

    def _run(self, request: SocketRequest) -> None:
        self._socket.busy(True)
        try:
            body = request.prepare()
        except Refused as refused:
            self.say(request.refusal(self._flavor, refused))
            let_go(refused)
            return
        if body is None:
            for frame in request.answered():
                self.say(frame)
            return
        answer = Answer(request, body, self._socket, self._options.message)
        path, query = self._target
        scope = inner_scope("POST", path, query=query, headers=self._headers, length=len(body), like=self._like)
        running = self._running[request] = Running(answer, scope)
        task: Any = self._socket.run(answer.client.run(self._app, scope))
        running.task = task
        task.add_done_callback(partial(self._ended, request))

    def _ended(self, request: SocketRequest, task: asyncio.Task[None]) -> None:
        """End the answer, however its request ended, and let the next one run."""
        if not task.cancelled() and (failed := task.exception()) is not None:
            _log.error("websocket_request_failed", exc_info=failed)
        running = self._running.pop(request)
        try:
            if not self._left:
                running.answer.finish(self._flavor, running.reason)
        finally:
            running.answer.let_go()
            self._next()

    def _next(self) -> None:
        """Run the requests whose turn it is."""
        while request := next(filter(self._may_run, self._waiting), None):
            self._waiting.remove(request)
            self.hold(-request.size)
            self._run(request)
        self._note_rest()

    def _note_rest(self) -> None:
        if not self._left and self._rests():
            self._socket.busy(False)
            self._close_if_done()

    def _rests(self) -> bool:
        return not (self._running or self._waiting or self._reads)

    def _close_if_done(self) -> None:
        if self._end is not None and not self._left and self._rests():
            self._socket.close(*self._end)


def _cancelled() -> Cancelled:
    return Cancelled("the request was cancelled over its socket")
