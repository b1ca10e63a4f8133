"""proxy/server/disconnect_watch.py."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.server.disconnect_watch import DisconnectWatch
from tests.support.raw import Raw

BOTH_LOOPS = True

pytestmark = pytest.mark.skipif(not hasattr(select, "EPOLLRDHUP"), reason="this system does not tell")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
async def hangups() -> AsyncIterator[DisconnectWatch]:
    watch = DisconnectWatch.where_known(asyncio.get_running_loop())
    assert watch is not None
    yield watch
    watch.close()


def tcp_pair() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return listener.accept()[0], client


LEAVE: list[Callable[[socket.socket], None]] = [
    socket.socket.close,
    lambda sock: sock.shutdown(socket.SHUT_WR),
    lambda sock: Raw(sock).reset(),
]


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("make", [tcp_pair, socket.socketpair])
@pytest.mark.parametrize("unread", [b"", b"x" * 1000])
async def test_a_peer_that_goes_is_heard(
    hangups: DisconnectWatch, make: Callable[[], Pair], leave: Callable[[socket.socket], None], unread: bytes
) -> None:
    ours, theirs = make()
    with ours, theirs:
        gone = asyncio.Event()
        hangups.watch(ours.fileno(), gone.set)
        theirs.sendall(unread)
        leave(theirs)
        async with asyncio.timeout(5):
            await gone.wait()


async def test_only_the_peer_that_goes_is_heard_and_once(hangups: DisconnectWatch) -> None:
    calls: list[int] = []
    first, second = tcp_pair(), tcp_pair()
    with first[0], first[1], second[0], second[1]:
        gone = asyncio.Event()

        def note() -> None:
            calls.append(2)
            gone.set()

        hangups.watch(first[0].fileno(), lambda: calls.append(1))
        hangups.watch(second[0].fileno(), note)
        second[1].close()
        async with asyncio.timeout(5):
            await gone.wait()
        await asyncio.sleep(0)
    assert calls == [2]


async def test_what_is_forgotten_is_not_heard_and_may_be_watched_again(hangups: DisconnectWatch) -> None:
    calls: list[int] = []
    ours, theirs = tcp_pair()
    with ours, theirs:
        hangups.watch(ours.fileno(), lambda: calls.append(1))
        hangups.forget(ours.fileno())
        hangups.forget(ours.fileno())
        theirs.close()
        gone = asyncio.Event()
        hangups.watch(ours.fileno(), gone.set)
        async with asyncio.timeout(5):
            await gone.wait()
    assert calls == []


async def test_a_closed_socket_can_be_forgotten(hangups: DisconnectWatch) -> None:
    ours, theirs = tcp_pair()
    fd = ours.fileno()
    hangups.watch(fd, lambda: None)
    ours.close()
    theirs.close()
    hangups.forget(fd)


async def test_elsewhere_there_is_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.server.disconnect_watch._GONE", 0)
    assert DisconnectWatch.where_known(asyncio.get_running_loop()) is None
