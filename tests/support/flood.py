"""One address that opens connections without end, as a process of its own: `python -m tests.support.flood`."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.process import start_process

ROOT: Final = Path(__file__).parents[2]
PAUSE: Final = 1.0
"""Seconds until a connection that ended is opened anew: without it the attack would be one on the CPU."""


@asynccontextmanager
async def flood(address: tuple[str, int], source: str, says: bytes, count: int) -> AsyncIterator[None]:
    """Keep `count` connections from `source` open that have said `says`, as far as it is let; all have been tried."""
    process = await start_process(
        *(sys.executable, "-m", "tests.support.flood", *map(str, address), source, says.hex() or "-", str(count)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"under way\n"
        yield
        assert process.returncode is None, "the flood has ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _one(address: tuple[str, int], source: str, says: bytes, tried: asyncio.Semaphore) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as sock, suppress(OSError):
            sock.setblocking(False)
            sock.bind((source, 0))
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, says)
            tried.release()
            while await loop.sock_recv(sock, 4096):
                pass
        tried.release()
        await asyncio.sleep(PAUSE)


async def _run(host: str, port: str, source: str, says: str, count: str) -> None:
    tried = asyncio.Semaphore(0)
    data = b"" if says == "-" else bytes.fromhex(says)
    tasks = [asyncio.create_task(_one((host, int(port)), source, data, tried)) for _ in range(int(count))]
    for _ in tasks:
        await tried.acquire()
    print("under way", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
