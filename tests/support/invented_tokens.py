"""An attack from a process of its own: many connections, each of which sends one invented token after the other.

Run as a script it attacks until its input ends, and says then how many answers there were of each status.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from tests.support.process import start_process

PATIENCE = 60.0
"""Seconds that anything here may take."""


@asynccontextmanager
async def inventing_tokens(proxy: tuple[str, int], connections: int, addresses: int) -> AsyncIterator[Counter[int]]:
    """Attack `proxy` from so many addresses, if it believes us about them; the answers are counted when it is over."""
    command = [sys.executable, str(Path(__file__)), proxy[0], str(proxy[1]), str(connections), str(addresses)]
    attack = await start_process(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    answers: Counter[int] = Counter()
    assert attack.stdin is not None
    assert attack.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert await attack.stdout.readline() == b"begun\n"
        yield answers
        async with asyncio.timeout(PATIENCE):
            attack.stdin.close()
            said = await attack.stdout.read()
            await attack.wait()
        answers.update({int(status): number for status, number in json.loads(said).items()})
    finally:
        if attack.returncode is None:
            attack.kill()
            await attack.wait()


async def attack(host: str, port: int, connections: int, addresses: int) -> None:
    answers: Counter[int] = Counter()
    tokens = count()
    ended = asyncio.Event()
    answered = asyncio.Semaphore(0)

    async def send(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while not ended.is_set():
            head = f"GET /api/tags HTTP/1.1\r\nHost: proxy\r\nX-Forwarded-For: 203.0.113.{number % addresses}\r\n"
            writer.write(f"{head}Authorization: Bearer invented-{next(tokens)}\r\n\r\n".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = answer.partition("content-length: ")[2].partition("\r\n")[0]
            await reader.readexactly(int(length))
            answers[int(answer.split(" ")[1])] += 1
            answered.release()
        writer.close()

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(send(number))
        for _ in range(connections):
            await answered.acquire()
        print("begun", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        ended.set()
    print(json.dumps(answers))


if __name__ == "__main__":
    host, port, connections, addresses = sys.argv[1:]
    asyncio.run(attack(host, int(port), int(connections), int(addresses)))
