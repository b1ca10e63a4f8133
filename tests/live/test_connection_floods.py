"""One address that opens connections without end, beside honest callers from others."""

import asyncio
import resource
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.simulator import Ollama
from tests.support.certificates import Authority
from tests.support.flood import flood
from tests.support.process import Process, free_port

ATTACKER: Final = "127.0.0.2"
HONEST: Final = ("127.0.0.1", "127.0.0.3")
FLOOD: Final = 2000
SAMPLES: Final = 200
ROUNDS: Final = 5
"""A machine with other work to do may spoil a round."""
CLIENT_HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)
"""The beginning of one."""


async def ask(address: tuple[str, int], source: str, context: ssl.SSLContext | None) -> float:
    """Make one request on a connection of its own and return the seconds that took; fails unless it is answered."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection(*address, ssl=context, local_addr=(source, 0))
    try:
        writer.write(b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return time.perf_counter() - begun


async def p99(addresses: list[tuple[str, int]], context: ssl.SSLContext | None) -> list[float]:
    """Ask each in turn, so that whatever else the machine does disturbs all alike; return the p99 of each."""
    times = [[await ask(address, HONEST[number % 2], context) for address in addresses] for number in range(SAMPLES)]
    return [sorted(of_one)[SAMPLES * 99 // 100] for of_one in zip(*times, strict=True)]


def room_for(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        if hard != resource.RLIM_INFINITY and hard < files:
            pytest.skip(f"this needs {files} open files, and {hard} are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


@pytest.mark.timing(reason="it compares the latency of two proxies while one is flooded")
@pytest.mark.parametrize(
    ("says", "over_tls"),
    [(CLIENT_HELLO, True), (b"", True), (b"", False), (b"GET / HTTP/1.1\r\nHost:", False)],
    ids=["half handshakes", "silence before TLS", "idle", "half heads"],
)
async def test_a_flood_from_one_address_is_not_noticed_at_others(tmp_path: Path, says: bytes, over_tls: bool) -> None:
    room_for(FLOOD + 500)
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    context = ssl.create_default_context(cafile=authority.cert) if over_tls else None
    async with Ollama() as sim:
        settings: dict[str, Any] = {"listen": "127.0.0.1:0", "backends": [{"name": "b1", "url": sim.url}]}
        if over_tls:
            settings["tls"] = {"cert": pair.cert, "key": pair.key}
        async with (
            Process.started(tmp_path / "calm.yaml", settings) as calm,
            Process.started(tmp_path / "proxy.yaml", settings) as proxy,
        ):
            both = [calm.address, proxy.address]
            for address in both:
                await ask(address, HONEST[0], context)
            async with flood(proxy.address, ATTACKER, says, FLOOD):
                for _ in range(ROUNDS):
                    undisturbed, disturbed = await p99(both, context)
                    if disturbed <= 3 * undisturbed:
                        break
    assert disturbed <= 3 * undisturbed


async def test_where_files_are_few_callers_and_operators_are_answered_all_the_same(tmp_path: Path) -> None:
    async with Ollama() as sim:
        port = free_port()
        settings: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "ops": {"listen": f"127.0.0.1:{port}"},
            "backends": [{"name": "b1", "url": sim.url}],
        }
        async with Process.started(tmp_path / "proxy.yaml", settings, files=160) as proxy:
            async with (
                flood(proxy.address, ATTACKER, b"", 400),
                flood(proxy.address, "127.0.0.4", b"GET", 400),
                flood(("127.0.0.1", port), ATTACKER, b"", 400),
            ):
                for number in range(50):
                    await ask(proxy.address, HONEST[number % 2], None)
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(HONEST[0], 0))
                    writer.write(b"GET /-/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                    writer.close()
                    await writer.wait_closed()
            with suppress(ProcessLookupError):
                proxy.process.terminate()
            output, _ = await proxy.process.communicate()
            assert b'"reason":"address"' in output
            assert b'"event":"connections_bounded"' in output
            assert b'"files":160' in output
            assert b"EMFILE" not in output
            assert b"Too many open files" not in output
