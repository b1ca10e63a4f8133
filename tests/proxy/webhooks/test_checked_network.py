"""proxy/webhooks/checked_network.py."""

import asyncio
import socket
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore
import pytest

from proxy.webhooks.checked_network import CheckedNetwork, NotPermitted, is_public

PRIVATE = """
127.0.0.1 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 240.0.0.1
255.255.255.255 198.18.0.1 192.0.2.1 :: ::1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd00::1 ff02::1
::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: 2002:a00:1:: 2001:db8::1
"""
PUBLIC = "93.184.215.14 2606:2800:21f:cb07:6820:80da:af6b:8b2c 64:ff9b::5db8:d70e ::ffff:93.184.215.14"


@pytest.mark.parametrize(
    ("address", "public"), [(name, text is PUBLIC) for text in (PUBLIC, PRIVATE) for name in text.split()]
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names lead to these addresses, one answer after the other; return the names that are asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        if not found:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def test_one_private_address_among_several_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["93.184.215.14", "10.0.0.1"])
    with pytest.raises(NotPermitted, match=r"h\.example leads to 10\.0\.0\.1"):
        await CheckedNetwork().connect_tcp("h.example", 443)
    assert await CheckedNetwork([ip_network("10.0.0.0/24")]).addresses("h.example", 443)


async def test_a_name_is_resolved_once_and_its_address_is_the_one_that_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second answer, which a rebinding name would give, is never asked for."""
    served = asyncio.Event()

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = resolve_to(monkeypatch, ["127.0.0.1"], ["10.255.255.1"])
    stream = await CheckedNetwork([ip_network("127.0.0.0/8")]).connect_tcp("h.example", port, timeout=5)
    await served.wait()
    await stream.aclose()
    assert asked == ["h.example"]
    server.close()
    await server.wait_closed()


async def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, [])
    with pytest.raises(httpcore.ConnectError):
        await CheckedNetwork().connect_tcp("h.example", 443)


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "a..example"])
async def test_a_name_that_cannot_exist(name: str) -> None:
    with pytest.raises(httpcore.ConnectError):
        await CheckedNetwork().connect_tcp(name, 443)


async def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    resolve_to(monkeypatch, ["127.0.0.1", "127.0.0.2"])
    with pytest.raises(httpcore.ConnectError):
        await CheckedNetwork([ip_network("127.0.0.0/8")]).connect_tcp("h.example", port, timeout=5)
