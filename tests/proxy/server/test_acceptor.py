"""proxy/server/acceptor.py, over real sockets."""

import asyncio
import os
import socket
import ssl
import sys
from contextlib import AsyncExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from proxy.kernel.asgi import Receive, Send
from proxy.kernel.shared_numbers import SharedNumbers, make_shared
from proxy.server.connection_counts import COUNTS, SharedCounts
from proxy.server.listeners import TlsOptions, bind
from proxy.server.listening import ServerOptions
from proxy.server.server import Seat, Server, serve
from tests.support.backend import eventually
from tests.support.certificates import Authority
from tests.support.options import server_options
from tests.support.process import start_process
from tests.support.raw import Raw, Recorder, Seen, reply, wait_for_disconnect

BOTH_LOOPS = True
ROOT = Path(__file__).parents[3]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def options(**changes: Any) -> ServerOptions:
    return server_options(**({"listen": ["127.0.0.1:0"]} | changes))


async def connect(address: str, source: str) -> Raw:
    host, _, port = address.rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    return Raw(sock)


class House:
    """A server, and clients that stay until the end."""

    def __init__(self, server: Server, stack: AsyncExitStack) -> None:
        self.server = server
        self._stack = stack

    async def come(self, source: str, address: int = 0) -> Raw:
        return await self._stack.enter_async_context(await connect(self.server.addresses[address], source))

    async def stay(self, source: str, count: int) -> list[Raw]:
        """Let clients come who run a request each, so that none is idle."""
        clients = [await self.come(source) for _ in range(count)]
        for client in clients:
            await client.send(GET)
        return clients

    async def refused(self, source: str) -> bool:
        client = await self.come(source)
        await client.send(GET)
        answer = await client.response()
        assert answer.status in (200, 503)
        if answer.status == 503:
            assert answer.header(b"retry-after") == b"5"
            assert answer.header(b"connection") == b"close"
            assert await client.rest() == b""
        return answer.status == 503


async def test_an_address_has_its_bound_and_the_others_have_theirs() -> None:
    app = Recorder(wait_for_disconnect)
    async with serve(app, options(per_address=3)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        clients = await house.stay("127.0.0.2", 3)
        assert await house.refused("127.0.0.2")
        await house.stay("127.0.0.3", 1)
        for _ in range(4):
            await app.next()
        clients[0].sock.close()
        await eventually(lambda: server.open_connections == 3)
        await house.stay("127.0.0.2", 1)
        await app.next()
        assert server.turned_away == {"address": 1}


async def test_beyond_all_that_may_be_new_ones_are_refused_and_nothing_hangs() -> None:
    app = Recorder(wait_for_disconnect)
    async with serve(app, options(total=4, per_address=4)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        clients = await house.stay("127.0.0.2", 4)
        for _ in range(4):
            await app.next()
        for _ in range(20):
            assert await house.refused("127.0.0.3")
        clients[0].sock.close()
        await eventually(lambda: server.open_connections == 3)
        await house.stay("127.0.0.3", 1)
        await app.next()
        assert server.turned_away == {"total": 20}


async def test_idle_connections_make_way() -> None:
    async with serve(Recorder(), options(total=4, per_address=4)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        oldest = await house.come("127.0.0.2")
        await eventually(lambda: len(server._state.connections) == 1)
        begun = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() > begun + 0.002)  # uvloop counts milliseconds
        for _ in range(3):
            await house.come("127.0.0.2")
        await eventually(lambda: len(server._state.connections) == 4)
        assert not await house.refused("127.0.0.3")
        assert await oldest.rest() == b""
        assert server.turned_away == {"idle": 1}


async def test_each_newcomer_of_a_burst_takes_the_place_of_another_one() -> None:
    async with serve(Recorder(), options(total=64, per_address=48)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        idle = [("127.0.0.2", 48), *((f"127.0.1.{number}", 2) for number in range(1, 9))]
        for source, count in idle:
            for _ in range(count):
                await house.come(source)
        await eventually(lambda: len(server._state.connections) == 64)
        for burst in range(2):
            newcomers = []
            for number in range(60):  # all of them wait in the backlog: the loop does not run
                sock = stack.enter_context(socket.socket())
                sock.bind((f"127.0.{2 + burst}.{1 + number // 2}", 0))
                sock.connect(("127.0.0.1", int(server.addresses[0].rpartition(":")[2])))
                sock.setblocking(False)
                newcomers.append(Raw(sock))
            for client in newcomers:
                assert await answer_of(client) in (200, 503)
            assert server.open_connections <= 64
            assert len(server._state.connections) <= 64
        assert server.turned_away["idle"] >= 40


async def answer_of(client: Raw) -> int:
    await client.send(GET)
    return (await client.response()).status


@pytest.mark.parametrize(
    ("says", "status"),
    [(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", 401), (b"nothing\r\n\r\n", 400)],
    ids=["a body that nobody reads", "no request"],
)
async def test_what_was_answered_and_goes_on_for_nobody_makes_way(says: bytes, status: int) -> None:
    async def early(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"", 401 if seen.header(b"content-length") else 200)

    async with serve(Recorder(early), options(total=64, per_address=48)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        for source, count in (("127.0.0.2", 48), ("127.0.0.3", 16)):
            for _ in range(count):
                client = await house.come(source)
                await client.send(says)
                assert (await client.response()).status == status
        assert not await house.refused("127.0.0.4")
        assert server.turned_away == {"idle": 1}


@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "unix"])
async def test_trusted_proxies_have_no_bound_but_that_of_all(trusted: str, tmp_path: Path) -> None:
    app = Recorder(wait_for_disconnect)
    networks = () if trusted == "unix" else (ip_network(trusted),)
    listen = [f"unix:{tmp_path}/s"] if trusted == "unix" else ["127.0.0.1:0"]
    bounded = options(listen=listen, per_address=1, total=3, trusted=networks)
    async with serve(app, bounded) as server, AsyncExitStack() as stack:
        for _ in range(3):
            client = await stack.enter_async_context(await Raw.open(server.addresses[0]))
            await client.send(GET)
            await app.next()
        client = await stack.enter_async_context(await Raw.open(server.addresses[0]))
        assert (await client.response()).status == 503
        assert server.turned_away == {"total": 1}


async def test_other_bounds_hold_for_those_who_come_from_now_on() -> None:
    app = Recorder(wait_for_disconnect)
    async with serve(app, options(per_address=3)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        await house.stay("127.0.0.2", 3)
        server.renew_bounds(options(per_address=2))
        assert await house.refused("127.0.0.2")
        server.renew_bounds(options(per_address=4))
        await house.stay("127.0.0.2", 1)
        for _ in range(4):
            await app.next()


# Without files


PROGRAM = """
import asyncio, os, sys
from proxy.telemetry.log_setup import configure
from proxy.kernel.asgi import Receive, Send
from proxy.server.server import new_event_loop, serve
from proxy.testing import LogLines
from tests.support.backend import eventually
from tests.support.options import server_options
from tests.support.raw import Recorder

async def main():
    configure(LogLines(), format="json", level="info")
    async with serve(Recorder(), server_options(listen=["127.0.0.1:0"])) as server:
        print(*server.addresses, flush=True)
        while True:
            taken = []
            await asyncio.to_thread(sys.stdin.readline)
            await eventually(lambda: not server.open_connections)
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                print("none is left", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            for file in taken:
                os.close(file)
            print(dict(server.turned_away), flush=True)

with asyncio.Runner(loop_factory=new_event_loop if sys.argv[1] == "uvloop" else None) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_without_files_those_who_come_are_told_so_and_served_again_when_there_are(loop: str) -> None:
    process = await start_process(
        *("prlimit", "--nofile=64:64", sys.executable, "-c", PROGRAM, loop),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().strip()
        assert await status_of(address) == 200
        for round_ in (1, 2):
            process.stdin.write(b"take all\n")
            assert await process.stdout.readline() == b"none is left\n"
            for _ in range(10):
                assert await status_of(address) == 503
            process.stdin.write(b"let go\n")
            assert await process.stdout.readline() == b"{'files': %d}\n" % (10 * round_)
            assert await status_of(address) == 200
    finally:
        process.kill()
        _, said = await process.communicate()
    assert said == b""


async def status_of(address: str) -> int:
    async with await Raw.open(address) as client:
        await client.send(GET)
        return (await client.response()).status


async def test_where_not_even_a_refusal_has_a_file_accepting_pauses_and_goes_on() -> None:
    async with serve(Recorder(), options()) as server:
        acceptor = server._acceptor
        (listener,) = acceptor._listeners
        assert acceptor._spare is not None
        os.close(acceptor._spare)
        acceptor._spare = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("proxy.server.acceptor._spare_file", lambda: None)
            assert not acceptor._refuse_without_files(listener, None)
        assert not asyncio.get_running_loop().remove_reader(listener), "it is not looked at meanwhile"
        assert await status_of(server.addresses[0]) == 200
        assert acceptor._spare is not None


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(authority: Authority, **changes: Any) -> ServerOptions:
    pair = authority.issue("127.0.0.1")
    return options(tls=TlsOptions(cert=Path(pair.cert), key=Path(pair.key), client_ca=None), **changes)


async def over_tls(address: str, authority: Authority, source: str) -> bytes:
    host, _, port = address.rpartition(":")
    trust = ssl.create_default_context(cafile=authority.cert)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=trust, local_addr=(source, 0))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_half_handshakes_count_and_only_some_of_an_address_begin(authority: Authority) -> None:
    async with serve(Recorder(), tls(authority, handshakes=8, per_address=20)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        for _ in range(20):
            await (await house.come("127.0.0.2")).send(CLIENT_HELLO)
        await eventually(lambda: server.open_connections == 20)
        handshakes = server._acceptor.handshakes
        assert (handshakes.running, handshakes.waiting) == (2, 18)
        assert await (await house.come("127.0.0.2")).rest() == b"", "it is closed, as nothing can be said before TLS"
        assert server.turned_away == {"address": 1}
        assert await over_tls(server.addresses[0], authority, "127.0.0.3") == b"HTTP/1.1 200 OK\r\n"


async def test_a_crowded_address_drops_its_own_that_dawdle(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.tls_handshakes.CROWDED_SECONDS", 0.05)
    monkeypatch.setattr("proxy.server.tls_handshakes.LOOK_EVERY", 0.01)
    async with serve(Recorder(), tls(authority, handshakes=8)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        for _ in range(10):
            await (await house.come("127.0.0.2")).send(CLIENT_HELLO)
        assert await over_tls(server.addresses[0], authority, "127.0.0.2") == b"HTTP/1.1 200 OK\r\n"
        assert server.turned_away["handshake"] >= 8


async def test_a_handshake_that_fails_is_counted_and_leaves_nothing(authority: Authority) -> None:
    async with serve(Recorder(), tls(authority)) as server:
        for said in (b"GET / HTTP/1.1\r\n\r\n", CLIENT_HELLO, b""):
            async with await Raw.open(server.addresses[0]) as client:
                await client.send(said)
                if said:
                    await eventually(lambda: server.open_connections == 1)
        await eventually(lambda: server.open_connections == 0)
        assert server.turned_away == {"tls": 3}
        assert repr(server._acceptor) == (
            "<Acceptor <ConnectionCounts 0 of 0 addresses>, <Handshakes 0 running, 0 waiting>>"
        )


async def test_a_server_that_stops_drops_handshakes_at_once(authority: Authority) -> None:
    async with serve(Recorder(), tls(authority, handshakes=4)) as server, AsyncExitStack() as stack:
        house = House(server, stack)
        clients = [await house.come("127.0.0.2") for _ in range(5)]
        await eventually(lambda: server.open_connections == 5)
        assert await server.drain(3600) == 0
        for client in clients:
            assert await client.rest() == b""
        assert server.open_connections == 0
        assert server.turned_away.keys() <= {"tls"}


async def test_servers_of_several_processes_share_what_comes_and_what_may_come() -> None:
    """Each server stands for a process; they listen on the same socket."""
    (sock,) = bind(["127.0.0.1:0"], backlog=100, unix_mode=0o600)
    tables = [SharedNumbers(fd, rows=2, columns=COUNTS, row=row) for fd in [make_shared(2, COUNTS)] for row in (0, 1)]
    app = Recorder(wait_for_disconnect)
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                serve(app, options(total=20, per_address=20), Seat([sock.dup()], SharedCounts(table, 0, b"key")))
            )
            for table in tables
        ]
        house = House(servers[0], stack)
        await house.stay("127.0.0.2", 20)
        for _ in range(20):
            await app.next()
        assert sum(server.open_connections for server in servers) == 20
        assert min(server.open_connections for server in servers) >= 8
        for _ in range(5):
            assert await house.refused("127.0.0.3")
    sock.close()
