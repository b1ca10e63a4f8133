"""The simulated hosts, in a process of their own: they fail by turns, and get well when the clients pause.

It writes the ports on one line, and then obeys lines on its standard input: ``sick`` begins to fail, ``well`` ends it.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import uvloop

from bench.soak.part import say, told
from bench.soak.plan import CHAT, EMBED
from proxy.simulator import Ollama, Request

HOSTS: Final = 3
TOKEN_DELAY: Final = 0.04
EVERY: Final = (3.0, 6.0)
"""Seconds from the end of one fault to the next one."""
LASTS: Final = (0.5, 3.0)

Fault = Callable[[Ollama, random.Random], Awaitable[None]]


def _inference(seen: Request) -> bool:
    return seen.method == "POST"


async def killed(host: Ollama, rng: random.Random) -> None:
    """Every connection is reset, and new ones are refused."""
    await host.stop()


async def dropped(host: Ollama, rng: random.Random) -> None:
    """Every connection is closed once."""
    host.drop(reset=rng.random() < 0.5)


async def stalled(host: Ollama, rng: random.Random) -> None:
    """Some streams fall silent."""
    host.fault("stall", times=3, after=2, when=_inference)


async def slow(host: Ollama, rng: random.Random) -> None:
    """Everything takes longer."""
    host.settings.token_delay = TOKEN_DELAY * 4


def some(kind: Any, **options: Any) -> Fault:
    """Return a fault that strikes every second request."""

    async def strike(host: Ollama, rng: random.Random) -> None:
        host.fault(kind, times=None, when=lambda seen: _inference(seen) and rng.random() < 0.5, **options)

    return strike


FAULTS: Final[Sequence[Fault]] = (
    killed, dropped, stalled, slow, some("status", status=500), some("busy"), some("reset", after=3), some("truncate"),
    some("end", after=2), some("error", after=2), some("junk"), some("close"),
)  # fmt: skip


async def heal(host: Ollama) -> None:
    """Make `host` well again."""
    host.clear()
    host.settings.token_delay = TOKEN_DELAY
    await host.accept()


class Ward:
    """The hosts, and whether they fail."""

    def __init__(self, hosts: Sequence[Ollama], seed: int) -> None:
        self._hosts = hosts
        self._rng = random.Random(seed)
        self._sick = asyncio.Event()
        self._change = asyncio.Event()

    def obey(self, word: str) -> None:
        """Begin to fail, or end it."""
        if word == "sick":
            self._sick.set()
        else:
            self._sick.clear()
        self._change.set()

    async def run(self) -> None:
        """Fail by turns for as long as it is wanted."""
        while True:
            await self._sick.wait()
            host = self._rng.choice(self._hosts)
            await self._pause(EVERY)
            if self._sick.is_set():
                await self._rng.choice(FAULTS)(host, self._rng)
                await self._pause(LASTS)
            await heal(host)

    async def _pause(self, between: tuple[float, float]) -> None:
        self._change.clear()
        try:
            async with asyncio.timeout(self._rng.uniform(*between)):
                await self._change.wait()
        except TimeoutError:
            return


async def serve(seed: int) -> None:
    """Run until the standard input ends."""
    hosts = [
        Ollama(*CHAT, EMBED, token_delay=TOKEN_DELAY, load_delay=0.05, num_parallel=100, record=0) for _ in range(HOSTS)
    ]
    for host in hosts:
        await host.start()
    say([host.port for host in hosts])
    ward = Ward(hosts, seed)
    failing = asyncio.create_task(ward.run())
    try:
        async for word in told():
            ward.obey(word)
    finally:
        failing.cancel()
        for host in hosts:
            await host.stop()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
