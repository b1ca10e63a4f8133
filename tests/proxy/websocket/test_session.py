"""The requests of one socket, over an application and a socket of the test's own."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from proxy.kernel.asgi import Receive, Scope, Send, respond
from proxy.kernel.server_extensions import when_gone
from proxy.kernel.websocket import Closing, Opening
from proxy.testing.exchanges import SETTINGS
from proxy.websocket.session import SocketSession
from proxy.wiring import server_options
from tests.support.options import body_budget


class Socket:
    def __init__(self) -> None:
        self.said: list[Any] = []
        self.closings: list[tuple[Closing, str]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.is_busy = self.is_paused = False

    def send(self, text: bytes) -> bool:
        self.said.append(json.loads(text))
        return True

    async def room(self) -> None: ...

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    def busy(self, runs: bool) -> None:
        self.is_busy = runs

    def rests(self) -> bool:
        return not self.is_busy

    def pause(self) -> None:
        self.is_paused = True

    def go_on(self) -> None:
        self.is_paused = False

    def close(self, code: Closing, reason: str) -> None:
        self.closings.append((code, reason))

    async def ended(self) -> None:
        """Wait until all requests have ended, those that were waiting included."""
        while running := [task for task in self.tasks if not task.done()]:
            await asyncio.wait(running)
            await asyncio.sleep(0)  # their callbacks run then


class App:
    """Answers each request when it is told to."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[Any] = []
        self.gate = asyncio.Event()
        self.crashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.bodies.append(json.loads((await receive())["body"]))
        task = asyncio.current_task()
        assert task is not None

        def leave() -> None:
            task.cancel()

        when_gone(scope, leave)
        if self.crashes:
            raise RuntimeError("a bug")
        await self.gate.wait()
        await respond(send, 200, [(b"content-type", b"application/x-ndjson")], b'{"done":true}\n')


Made = tuple[SocketSession, Socket, App]


@pytest.fixture
def make() -> Callable[..., Made]:
    def made(*, responses: bool = False, **bounds: Any) -> Made:
        socket, app = Socket(), App()
        options = server_options(SETTINGS).websocket
        assert options is not None
        for name, value in bounds.items():
            object.__setattr__(options, name, value)
        opening = Opening("/api/chat", b"q=1", [(b"x", b"y")], (), None, None, options, lambda _: None)
        session = SocketSession(
            socket,
            opening=opening,
            app=app,
            flavor="ollama",
            responses=responses,
            like={"client": ("1.2.3.4", 5), "scheme": "https", "server": ("p", 1)},
            bodies=body_budget(),
            caller="@1.2.3.4",
        )
        return session, socket, app

    return made


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_message_is_a_post_with_the_fields_of_the_handshake(make: Callable[..., Made]) -> None:
    session, socket, app = make()
    session.text(b'{"a":1}')
    assert not socket.rests()
    app.gate.set()
    await socket.ended()
    (scope,) = app.scopes
    assert (scope["type"], scope["method"], scope["path"], scope["query_string"]) == (
        "http",
        "POST",
        "/api/chat",
        b"q=1",
    )
    assert scope["headers"] == [(b"x", b"y"), (b"content-type", b"application/json"), (b"content-length", b"7")]
    assert (scope["client"], scope["scheme"]) == (("1.2.3.4", 5), "https")
    assert socket.said == [{"done": True}]
    assert socket.rests()


async def test_lanes_run_at_once_and_what_is_in_one_runs_in_turn(make: Callable[..., Made]) -> None:
    session, socket, app = make(requests=3, waiting=9)
    for message in ({"n": 1}, {"n": 2}, {"n": 3, "id": "a"}, {"n": 4, "id": "b"}, {"n": 5, "id": "c"}):
        session.text(json.dumps(message).encode())
    await settled()
    assert [body["n"] for body in app.bodies] == [1, 3, 4]
    assert session._bodies.held > 0
    app.gate.set()
    await socket.ended()
    assert sorted(body["n"] for body in app.bodies) == [1, 2, 3, 4, 5]
    assert session._bodies.held == 0


async def test_draining_ends_with_the_last_answer(make: Callable[..., Made]) -> None:
    session, socket, app = make()
    session.text(b"{}")
    await settled()
    session.drain("enough")
    assert not socket.closings
    session.text(b"{}")
    assert socket.said[0]["code"] == "shutdown"
    app.gate.set()
    await socket.ended()
    assert socket.closings == [(Closing.GOING_AWAY, "enough")]
    other, socket, _ = make()
    other.drain("idle")
    assert socket.closings


async def test_a_cut_ends_what_runs_and_what_waits(make: Callable[..., Made]) -> None:
    session, socket, app = make()
    session.text(b"{}")
    session.text(b"{}")
    await settled()
    session.cut()
    await socket.ended()
    assert [frame["code"] for frame in socket.said] == ["shutdown", "shutdown"]
    assert socket.closings[0][0] is Closing.RESTART
    assert len(app.bodies) == 1
    assert session._bodies.held == 0


@pytest.mark.parametrize("responses", [False, True])
async def test_a_client_that_leaves_leaves_nothing(make: Callable[..., Made], responses: bool) -> None:
    session, socket, app = make(responses=responses)
    message = b'{"type":"response.create","input":"hi"}'
    session.text(message)
    session.text(message)
    await settled()
    session.gone()
    await socket.ended()
    assert not socket.said
    assert len(app.bodies) == 1
    assert session._bodies.held == 0
    session.text(message)  # too late
    assert len(socket.tasks) == 1


async def test_cancel_ends_what_runs_and_what_waits(make: Callable[..., Made]) -> None:
    session, socket, _ = make(requests=1)
    session.text(b'{"id":"a"}')
    session.text(b'{"id":"b"}')
    await settled()
    for name in (b"b", b"a", b"a", b"none"):
        session.text(b'{"cancel":"%b"}' % name)
    await socket.ended()
    await settled()
    assert [(frame["id"], frame["status"], frame["code"]) for frame in socket.said] == [
        ("b", 499, "cancelled"),
        ("a", 499, "cancelled"),
    ]
    assert session._bodies.held == 0


async def test_a_bug_is_an_error_of_that_request_alone(
    make: Callable[..., Made], capsys: pytest.CaptureFixture[str]
) -> None:
    session, socket, app = make()
    app.crashes = True
    session.text(b"{}")
    await socket.ended()
    await settled()
    assert socket.said[0]["status"] == 502
    assert "websocket_request_failed" in capsys.readouterr().out


async def test_many_that_are_refused_in_a_row_do_not_nest(make: Callable[..., Made]) -> None:
    session, socket, app = make(responses=True, waiting=1000)
    session.text(b'{"type":"response.create"}')
    for _ in range(1000):
        session.text(b'{"type":"response.create","previous_response_id":"x"}')
    app.gate.set()
    await socket.ended()
    await settled()
    assert len(socket.said) == 1001


@pytest.mark.parametrize("responses", [False, True])
async def test_a_long_message_is_read_beside_the_loop(make: Callable[..., Made], responses: bool) -> None:
    session, socket, app = make(responses=responses)
    document = {"type": "response.create", "id": "a", "input": "x" * 100_000}
    message = json.dumps(document).encode()
    session.text(message)
    assert (socket.is_paused, socket.is_busy, session._bodies.held) == (True, True, len(message))
    session.drain("enough")
    assert not socket.closings  # it came before
    (reading,) = socket.tasks
    await reading
    assert not socket.is_paused
    assert socket.said[0]["status"] == 503
    assert socket.closings == [(Closing.GOING_AWAY, "enough")]
    assert session._bodies.held == 0
    assert not app.bodies


async def test_a_long_message_whose_client_leaves_is_forgotten(make: Callable[..., Made]) -> None:
    session, socket, app = make()
    session.text(json.dumps({"x": "x" * 100_000}).encode())
    session.gone()
    await socket.ended()
    assert not app.bodies
    assert session._bodies.held == 0
    session, socket, app = make()
    app.gate.set()
    session.text(json.dumps({"id": "a", "x": "x" * 100_000}).encode())
    await socket.ended()
    await settled()
    assert [frame["id"] for frame in socket.said] == ["a"]
    assert app.bodies[0].keys() == {"x"}
    assert socket.rests()
