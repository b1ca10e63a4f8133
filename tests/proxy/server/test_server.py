"""proxy/server/server.py, over real sockets."""

import asyncio
import os
import signal
import socket
import ssl
import stat
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.kernel.asgi import Receive, Scope, Send
from proxy.server.guarded_protocol import GuardedProtocol
from proxy.server.listeners import ServerError, TlsOptions
from proxy.server.listening import ServerOptions
from proxy.server.server import Server, new_event_loop, serve
from tests.support.certificates import Authority, Pair
from tests.support.options import server_options
from tests.support.process import start_process
from tests.support.raw import PATIENCE, Raw, Recorder, Seen, read_body, reply

BOTH_LOOPS = True

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANY = ["127.0.0.1:0"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def options(**changes: Any) -> ServerOptions:
    return server_options(**({"listen": ANY} | changes))


class Slow(Recorder):
    """Begins to answer, and goes on when told to."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.go = asyncio.Event()

    async def _answer(self, seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"two"})


async def ask(address: str) -> int:
    async with await Raw.open(address) as client:
        await client.send(GET)
        return (await client.response()).status


# Listening


async def test_several_addresses_at_once(tmp_path: Path) -> None:
    async with serve(Recorder(), options(listen=["127.0.0.1:0", "127.0.0.2:0", f"unix:{tmp_path}/s"])) as server:
        assert len(set(server.addresses)) == 3
        assert not any(address.endswith(":0") for address in server.addresses)
        for address in server.addresses:
            assert await ask(address) == 200
        assert str(server.addresses[0]) in repr(server)


async def test_ipv6() -> None:
    try:
        server = Server(Recorder(), options(listen=["[::1]:0"]))
        await server.start()
    except ServerError:
        pytest.skip("this machine has no IPv6")
    assert await ask(server.addresses[0]) == 200
    await server.drain(0)


async def test_a_unix_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    app = Recorder()
    async with serve(app, options(listen=[f"unix:{path}"], unix_mode=0o600)) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await ask(server.addresses[0]) == 200
        assert app.seen[0].scope["client"] is None
    assert not path.exists()


async def test_a_unix_socket_that_is_another_servers_by_now_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serve(Recorder(), options(listen=[f"unix:{path}"])):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


async def test_an_address_in_use_is_told_before_the_application_starts() -> None:
    app = Recorder()
    async with serve(Recorder(), options()) as server:
        with pytest.raises(ServerError, match="in use"):
            await Server(app, options(listen=server.addresses)).start()


async def test_what_is_for_this_machine_only_is_not_served_to_others() -> None:
    async with serve(Recorder(), options(local_only=True)) as server:
        assert server.exposed == ()
    with pytest.raises(ServerError, match=r"others can reach 0\.0\.0\.0:\d+, and nothing .* add auth"):
        await Server(Recorder(), options(listen=["0.0.0.0:0"], local_only=True)).start()
    async with serve(Recorder(), options(listen=["127.0.0.1:0", "0.0.0.0:0"])) as server:
        assert server.exposed == server.addresses[1:]


async def test_an_application_that_does_not_start_leaves_nothing_bound(tmp_path: Path) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    path = tmp_path / "s"
    with pytest.raises(ServerError, match="did not start"):
        await Server(broken, options(listen=[f"unix:{path}"])).start()
    assert not path.exists()


async def test_lifespan_state_reaches_requests() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["name"] = b"shared"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await reply(send, scope["state"]["name"])

    async with serve(app, options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        answer = await client.response()
        assert answer.body == b"shared"
        assert answer.header(b"server") is None
        assert len([name for name, _ in answer.headers if name == b"date"]) == 1


async def test_the_date_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = iter(["one", "two", "three", "four"])
    monkeypatch.setattr("proxy.server.server.formatdate", lambda usegmt: next(dates))
    async with serve(Recorder(), options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        assert (await client.response()).header(b"date") == b"one"
        server._clock.cancel()
        server._keep_date()
        await client.send(GET)
        assert (await client.response()).header(b"date") == b"two"


# TLS


@asynccontextmanager
async def over_tls(
    address: str, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(authority: Authority, *, client_ca: bool = False, **changes: Any) -> ServerOptions:
    pair = authority.issue("127.0.0.1")
    ours = TlsOptions(cert=Path(pair.cert), key=Path(pair.key), client_ca=Path(authority.cert) if client_ca else None)
    return options(tls=ours, **changes)


def trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.cert)
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_tls(authority: Authority, tmp_path: Path) -> None:
    app = Recorder()
    trust = trusting(authority)
    trust.set_alpn_protocols(["h2", "http/1.1"])
    async with serve(app, tls(authority, listen=["127.0.0.1:0", f"unix:{tmp_path}/s"])) as server:
        async with over_tls(server.addresses[0], trust) as (reader, writer):
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            writer.write(GET)
            assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        assert app.seen[0].scope["scheme"] == "https"
        assert await ask(server.addresses[1]) == 200, "a unix socket is plain"


async def test_tls_refusals_arrive_and_close(authority: Authority) -> None:
    async with (
        serve(Recorder(), tls(authority)) as server,
        over_tls(server.addresses[0], trusting(authority)) as (reader, writer),
    ):
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + GET)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"\r\n\r\nan HTTP/1.1 request needs a Host field")


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_tls_clients_that_go_are_noticed(authority: Authority, how: str) -> None:
    async def waiting(seen: Seen, receive: Receive, send: Send) -> None:
        await read_body(seen, receive)
        while not seen.gone.is_set():
            await receive()

    app = Recorder(waiting)
    async with (
        serve(app, tls(authority)) as server,
        over_tls(server.addresses[0], trusting(authority)) as (_, writer),
    ):
        writer.write(GET)
        seen = await app.next()
        getattr(writer.transport, how)()
        async with asyncio.timeout(PATIENCE):
            await seen.gone.wait()


async def test_tls_clients_that_do_not_read_are_bounded(authority: Authority) -> None:
    async def big(seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not seen.gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            if connection_of(server).flow.write_paused:
                stopped.set()

    stopped = asyncio.Event()
    async with (
        serve(Recorder(big), tls(authority)) as server,
        over_tls(server.addresses[0], trusting(authority)) as (_, writer),
    ):
        writer.write(GET)
        async with asyncio.timeout(PATIENCE):
            await stopped.wait()
        assert connection_of(server).transport.get_write_buffer_size() <= 65_536 + 10_000


def connection_of(server: Server) -> GuardedProtocol:
    (connection,) = server._connections()
    return connection


async def test_client_certificates_are_required(authority: Authority, tmp_path: Path) -> None:
    async with serve(Recorder(), tls(authority, client_ca=True)) as server:
        known = trusting(authority, authority.issue("known"))
        async with over_tls(server.addresses[0], known) as (reader, writer):
            writer.write(GET)
            assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        (tmp_path / "other").mkdir()
        stranger = Authority(tmp_path / "other").issue("stranger")
        for pair in (None, stranger):
            assert await refused(server.addresses[0], trusting(authority, pair))


async def refused(address: str, context: ssl.SSLContext) -> bool:
    """Whether the handshake fails; in TLS 1.3 a client may learn so only when it reads."""
    try:
        async with over_tls(address, context) as (reader, writer):
            writer.write(GET)
            return not await reader.read(1)
    except OSError:
        return True


async def test_a_handshake_has_the_deadline_of_a_head(authority: Authority) -> None:
    async with (
        serve(Recorder(), tls(authority, head_timeout=0.05)) as server,
        await Raw.open(server.addresses[0]) as client,
    ):
        assert await client.rest() == b""


# Draining


async def test_an_idle_connection_is_closed_and_none_is_accepted() -> None:
    async with serve(Recorder(), options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        await client.response()
        assert await server.drain(30) == 0
        assert await client.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await Raw.open(server.addresses[0])
        assert not server.serving


async def test_a_running_answer_is_finished() -> None:
    app = Slow()
    async with serve(app, options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET + GET)
        await client.until(b"one\r\n")
        draining = asyncio.create_task(server.drain(30))
        await asyncio.sleep(0)
        app.go.set()
        assert await client.rest() == b"3\r\ntwo\r\n0\r\n\r\n"
        assert await draining == 0
    assert len(app.seen) == 1, "a request behind it is not begun"


@pytest.mark.parametrize("begun", [True, False])
async def test_what_does_not_finish_in_time_ends_honestly(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        if begun:
            await slow._answer(seen, receive, send)
        else:
            await slow.go.wait()

    slow = Slow()
    app = Recorder(answer)
    async with serve(app, options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        seen = await app.next()
        if begun:
            await client.until(b"one\r\n")
        assert await server.drain(0.01) == 1
        assert seen.cancelled
        assert seen.dropped == "shutdown"
        rest = await client.rest()
        assert rest == b"" if begun else rest.startswith(b"HTTP/1.1 500 ")
    assert caplog.records == []


async def test_an_application_may_use_its_cancellation_for_last_words() -> None:
    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await reply(send, b"going down", 503)

    app = Recorder(answer)
    async with serve(app, options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        await app.next()
        assert await server.drain(0) == 1
        response = await client.response()
        assert (response.status, response.body, response.header(b"connection")) == (503, b"going down", b"close")


async def test_an_application_that_goes_on_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stubborn(seen: Seen, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    monkeypatch.setattr("proxy.server.server.SETTLE_SECONDS", 0.05)
    app = Recorder(stubborn)
    async with serve(app, options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        await app.next()
        assert await server.drain(0) == 1
        await client.rest()
        assert client.closed
        assert app.seen[0].cancelled


async def test_told_to_stop_twice_it_does_not_wait() -> None:
    app = Slow()
    async with serve(app, options()) as server, await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        await client.until(b"one\r\n")
        server.stop()
        assert server.seconds_left == 0.0
        draining = asyncio.create_task(server.drain(3600))
        await asyncio.sleep(0)
        assert 0.0 < server.seconds_left <= 3600.0
        server.stop()
        assert server.seconds_left == 0.0
        async with asyncio.timeout(PATIENCE):
            assert await draining == 1
        assert await client.rest() == b""


async def test_told_to_stop_twice_at_once_it_does_not_wait_either() -> None:
    app, ready = Slow(), asyncio.Event()
    server = Server(app, options(shutdown_timeout=3600))
    running = asyncio.create_task(server.run_here(lambda _: ready.set(), signals=()))
    await ready.wait()
    async with await Raw.open(server.addresses[0]) as client:
        await client.send(GET)
        await client.until(b"one\r\n")
        server.stop()
        server.stop()
        async with asyncio.timeout(PATIENCE):
            assert await running == 1
        assert await client.rest() == b""


def open_files() -> int:
    """How many files this process has open, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


async def test_nothing_is_left_after_the_end() -> None:
    async with serve(Recorder(), options()) as server:
        await ask(server.addresses[0])  # the loop opens files of its own on first use
    before = open_files()
    async with serve(Slow(), options()) as server:
        clients = [await Raw.open(server.addresses[0]) for _ in range(20)]
        for client in clients[:10]:
            await client.send(GET)
            await client.until(b"one\r\n")
        await clients[10].send(b"GET / HT")
    for client in clients:
        client.sock.close()
    await asyncio.sleep(0)
    assert open_files() == before
    assert len(asyncio.all_tasks()) == 1


# A process


PROGRAM = """
import asyncio, sys
from proxy.server.guarded_protocol import GuardedProtocol
from proxy.server.server import Server
from tests.support.options import server_options

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("stopped", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await asyncio.Event().wait()

def ready(server):
    print(*server.addresses, flush=True)

cut = Server(app, server_options(listen=["127.0.0.1:0"], shutdown_timeout=3600)).run(ready=ready)
print("cut", cut, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_drains_on_a_signal_and_hurries_on_the_second(number: signal.Signals) -> None:
    process = await start_process(
        sys.executable, "-c", textwrap.dedent(PROGRAM), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        address = (await process.stdout.readline()).decode().strip()
        async with await Raw.open(address) as client, await Raw.open(address) as idle:
            await client.send(GET)
            await client.until(b"one\r\n")
            process.send_signal(number)
            assert await idle.rest() == b""
            process.send_signal(number)
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        out, err = await process.communicate()
    assert (out, err) == (b"stopped\ncut 1\n", b"")
    assert process.returncode == 0


def test_the_event_loop_is_uvloops_where_it_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = new_event_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert not isinstance(loop, uvloop.Loop)
    loop.close()
