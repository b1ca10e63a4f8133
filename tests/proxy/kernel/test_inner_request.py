"""proxy/kernel/inner_request.py."""

import asyncio

from proxy.kernel.asgi import Header, Receive, Scope, Send
from proxy.kernel.inner_request import InnerClient, inner_scope, stored_caller
from proxy.kernel.journal import StoredCaller
from proxy.kernel.server_extensions import when_gone, writer


class Taken:
    """What an inner client got; it has room for more once `eased` is set."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.status: int | None = None
        self.parts: list[bytes] = []
        self.eased = asyncio.Event()
        self.asked_for_room = asyncio.Event()

    def begin(self, status: int, headers: list[Header]) -> None:
        self.status = status

    def take(self, part: bytes) -> bool:
        self.parts.append(part)
        return not self.full

    async def room(self) -> None:
        self.asked_for_room.set()
        await self.eased.wait()

    def client(self, body: bytes = b"{}") -> InnerClient:
        return InnerClient(body, begin=self.begin, take=self.take, room=self.room)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 201, "headers": []})
    write = writer(scope)
    assert write is not None
    write(b"a")
    await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_the_answer_comes_in_the_parts_that_were_sent_by_either_way() -> None:
    taken = Taken()
    client = taken.client(b"body")
    await client.run(echo, inner_scope("POST", "/api/chat", length=4))
    assert (client.status, taken.status, taken.parts, client.complete) == (201, 201, [b"a", b"body"], True)


async def test_a_full_client_is_waited_for() -> None:
    taken = Taken(full=True)
    client = taken.client()
    task = asyncio.create_task(client.run(echo, inner_scope("POST", "/api/chat")))
    await taken.asked_for_room.wait()
    assert not client.complete
    taken.eased.set()
    await task
    assert client.complete


async def test_who_leaves_calls_back_once_and_receives_a_disconnect() -> None:
    seen: list[str] = []
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

        def gone() -> None:
            seen.append("gone")
            left.set()

        assert when_gone(scope, gone)
        client.leave()
        client.leave()
        await left.wait()
        seen.append((await receive())["type"])

    client = Taken().client()
    await client.run(app, inner_scope("POST", "/api/chat"))
    assert seen == ["gone", "http.disconnect"]


def test_the_scope_is_like_that_of_its_connection() -> None:
    outer: Scope = {
        "type": "websocket", "scheme": "wss", "client": ("192.0.2.1", 5), "server": ("h", 443),
        "state": {"tls_peer": {"a": 1}, "when_gone": print},
    }  # fmt: skip
    scope = inner_scope("POST", "/api/chat", headers=[(b"host", b"h")], length=7, like=outer)
    assert (scope["scheme"], scope["client"], scope["server"]) == ("https", ("192.0.2.1", 5), ("h", 443))
    assert scope["state"] == {"tls_peer": {"a": 1}}
    assert scope["headers"] == [(b"host", b"h"), (b"content-length", b"7")]
    assert stored_caller(scope) is None


def test_a_stored_caller_is_in_the_scope() -> None:
    caller = StoredCaller(identity="alice", method="key", client="192.0.2.1")
    assert stored_caller(inner_scope("POST", "/api/chat", stored=caller)) is caller
    assert (caller.owner, StoredCaller(client="192.0.2.1").owner) == ("by alice", "at 192.0.2.1")
