"""The command line of the burst: ``scripts/burst [--requests N] [--store sqlite|redis] [--kill-after half|each]``."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from bench.bursts.cast import SLOTS, TENANTS, Proxy, counters, host, keys, proxies, redis, stop_all
from bench.bursts.verdict import Verdict, judge
from bench.plan import HOST, MODEL
from bench.targets import TargetFailed

AT_ONCE: Final = 32
"""Calls of the clients at a time."""


class Burst:
    """The clients of one burst: each request is sent once, to one of the proxies, and is asked for at any of them."""

    def __init__(self, running: Sequence[Proxy], credentials: Sequence[str], requests: int) -> None:
        self.running = running
        self._keys = credentials
        self._requests = requests
        self.places: list[str] = []
        self.tenants = [number * TENANTS // requests for number in range(requests)]
        """One tenant after the other: who came first would go first, where nobody saw to it."""

    def _header(self, number: int) -> dict[str, str]:
        return {"authorization": f"Bearer {self._keys[self.tenants[number]]}"}

    def _url(self, number: int, path: str) -> str:
        return f"http://{HOST}:{self.running[number % len(self.running)].port}{path}"

    async def submit(self, client: httpx.AsyncClient, number: int) -> str:
        """Send a request; return where its answer will be."""
        body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": f"Number {number}"}]}
        answer = await client.post(
            self._url(number, "/api/chat"), json=body, headers={**self._header(number), "prefer": "respond-async"}
        )
        if answer.status_code != 202:
            raise TargetFailed(f"request {number} was answered {answer.status_code}: {answer.text[:200]}")
        return answer.headers["location"]

    async def submit_all(self, client: httpx.AsyncClient) -> None:
        """Send all requests."""
        self.places = await self._each(lambda number: self.submit(client, number))

    async def until_over(self, client: httpx.AsyncClient, *, within: float) -> None:
        """Wait until nothing is queued or running any more, as the tenants see it."""
        deadline = time.monotonic() + within
        for tenant in range(TENANTS):
            last = max(number for number in range(self._requests) if self.tenants[number] == tenant)
            while True:
                for proxy in self.running:
                    proxy.weigh()
                answer = await client.get(self._url(last, self.places[last]), headers=self._header(last))
                if answer.status_code == 404 or answer.json()["state"] not in ("queued", "running"):
                    break
                if time.monotonic() > deadline:
                    raise TargetFailed(f"after {within:g} s request {last} is still {answer.json()['state']}")
                await asyncio.sleep(0.5)

    async def entries(self, client: httpx.AsyncClient) -> list[dict[str, Any]]:
        """Return what the proxies say of each request; nothing of one that they do not know."""

        async def entry(number: int) -> dict[str, Any]:
            while True:
                answer = await client.get(self._url(number, self.places[number]), headers=self._header(number))
                found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
                if found.get("state") not in ("queued", "running"):
                    return found
                await asyncio.sleep(0.2)

        return await self._each(entry)

    async def wrong(self, client: httpx.AsyncClient) -> int:
        """Return how many answers are not whole."""

        async def is_wrong(number: int) -> bool:
            try:
                answer = await client.get(
                    self._url(number, f"{self.places[number]}/answer"), headers=self._header(number)
                )
            except httpx.RemoteProtocolError:
                return True
            lines = answer.content.splitlines()
            return not lines or not orjson.loads(lines[-1]).get("done")

        return sum(await self._each(is_wrong))

    async def _each(self, call: Any) -> list[Any]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> Any:
            async with places:
                return await call(number)

        return await asyncio.gather(*(one(number) for number in range(self._requests)))


async def burst(options: argparse.Namespace, folder: Path) -> tuple[Verdict, list[Proxy], int]:
    """Let one burst come; return the verdict, the proxies, and how many requests may have run twice."""
    with ExitStack() as stack:
        store = "sqlite:state.db" if options.store == "sqlite" else stack.enter_context(redis(folder))
        url = stack.enter_context(host(tokens=options.tokens, token_delay=options.token_delay))
        running = proxies(folder, url, store, 1 if options.store == "sqlite" else options.proxies)
        credentials = keys(folder)
        stack.callback(stop_all, running)
        for proxy in running:
            proxy.start()
        sent = Burst(running, credentials, options.requests)
        again = 0
        async with httpx.AsyncClient(timeout=60.0, limits=httpx.Limits(max_connections=AT_ONCE)) as client:
            if options.kill == "each":
                for number in range(options.requests):
                    sent.places.append(await sent.submit(client, number))
                    if number % options.every == options.every - 1:
                        again += _crash([running[number % len(running)]])
            else:
                await sent.submit_all(client)
            since = time.time()
            if options.kill == "half":
                await _until_generated(url, options.requests // 2)
                again += _crash(running)
            await sent.until_over(client, within=options.within)
            entries = await sent.entries(client)
            wrong, generated = await sent.wrong(client), counters(url)["by_route"].get("/api/chat", 0)
            verdict = judge(entries, sent.tenants, wrong, generated, since)
    return verdict, running, again


async def _until_generated(url: str, number: int) -> None:
    """Return when the host has begun to generate `number` answers."""
    while True:
        if counters(url)["by_route"].get("/api/chat", 0) >= number:
            return
        await asyncio.sleep(0.1)


def _crash(running: Sequence[Proxy]) -> int:
    """Kill the proxies and start them again; return how many requests may have run, or have ended unwritten, there."""
    for proxy in running:
        proxy.kill()
    for proxy in running:
        proxy.start()
    return 2 * SLOTS * len(running)


def main(arguments: Sequence[str] | None = None) -> int:
    """Let a burst come; returns 1 where something promised did not hold."""
    options = _parse(arguments)
    with tempfile.TemporaryDirectory(prefix="burst-") as folder:
        try:
            verdict, running, again = asyncio.run(burst(options, Path(folder)))
        except (TargetFailed, OSError, httpx.HTTPError) as error:
            _say(f"the burst could not go on: {type(error).__name__} {error}")
            for log in sorted(Path(folder).glob("*.log")):
                _say(log.read_text(errors="replace")[-2000:])
            return 1
    _say(f"{options.store}: {verdict}")
    for number, proxy in enumerate(running):
        if len(proxy.sizes) > 4:
            early, late = proxy.sizes[len(proxy.sizes) // 4], proxy.sizes[-1]
            most = max(proxy.sizes) >> 20
            _say(f"  proxy {number}: {early >> 20} MB early, {late >> 20} MB at the end, {most} MB at most")
    return 0 if (verdict.kept() if options.kill == "each" else verdict.holds(again=again)) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/burst", description="Defer a burst of requests, and kill proxies.")
    add = parser.add_argument
    add("--requests", type=int, default=2000)
    add("--store", choices=("sqlite", "redis"), default="sqlite")
    add("--proxies", type=int, default=3, help="how many share the Redis (default: %(default)s)")
    add(
        "--kill",
        choices=("none", "half", "each"),
        default="none",
        help="kill -9 all of them half way, or after each 202",
    )
    add("--every", type=int, default=1, help="with --kill each: after each so many (default: %(default)s)")
    add("--tokens", type=int, default=8)
    add("--token-delay", type=float, default=0.01)
    add("--within", type=float, default=600.0, help="seconds that all may take (default: %(default)s)")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
