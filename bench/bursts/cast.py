"""The processes of a burst: one host, the proxies in front of it, and a Redis where they share one."""

import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson
import yaml

from bench.meter import rss_bytes
from bench.plan import HOST, MODEL
from bench.targets import PATIENCE, ROOT, TargetFailed, free_port, stop
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key

SLOTS: Final = 2
TENANTS: Final = 8


def keys(folder: Path, tenants: int = TENANTS, policies: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Write a key file with one key for each tenant, and return the keys; `policies` are those of some tenants."""
    made = []
    for number in range(tenants):
        tenant = f"tenant-{number}"
        key, entry = new_key(f"user-{number}", now=time.time(), tenant=tenant, policy=policies.get(tenant))
        add_key(folder / "keys.yaml", entry)
        made.append(key)
    return made


@dataclass(slots=True)
class Proxy:
    """One proxy, which can be killed and started again on its port.

    Attributes:
        sizes: the memory that it had when `weigh` was called, bytes.
    """

    policy: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    sizes: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(self.policy)]
        with self.policy.with_suffix(f".{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _until_answered(f"http://{HOST}:{self.port}/-/healthz", self.process)

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def weigh(self) -> None:
        """Note the memory that it has now."""
        if self.process is not None and self.process.poll() is None:
            with suppress(OSError):
                self.sizes.append(rss_bytes([self.process.pid]))

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.poll() is None:
            stop(self.process)


@contextmanager
def host(*, tokens: int, token_delay: float) -> Iterator[str]:
    """Run a simulated host; yields its address."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "proxy.simulator", "--port", str(port), "--control", "--num-parallel", "64"),
        *("--models", MODEL, "--tokens", str(tokens), "--token-delay", str(token_delay)),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _until_answered(f"http://{HOST}:{port}/api/version", process)
        yield f"http://{HOST}:{port}"
    finally:
        stop(process)


def counters(url: str) -> Mapping[str, Any]:
    """Return what the simulated host at `url` has counted."""
    with urllib.request.urlopen(f"{url}/_sim/counters", timeout=5) as answer:
        counted: Mapping[str, Any] = orjson.loads(answer.read())
    return counted


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a redis-server that keeps what it acknowledged; yields its URL. Raises TargetFailed where there is none."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise TargetFailed("redis-server is not installed")
    port = free_port()
    options = ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    process = subprocess.Popen([binary, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://{HOST}:{port}/0"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def proxies(folder: Path, url: str, store: str, number: int) -> list[Proxy]:
    """Return `number` proxies, not started, in front of the host at `url`."""
    made = []
    for one in range(number):
        port, policy = free_port(), folder / f"proxy-{one}.yaml"
        settings = {
            "listen": f"{HOST}:{port}",
            "store": store,
            "backends": [{"name": "gpu", "url": url, "slots": SLOTS}],
            "middleware": [
                "logging",
                {"auth": {"keys": "keys.yaml"}},
                {"defer": {"per_identity": 10_000, "total": 100_000}},
                {"queue": {"depth": 1000}},
                "retry",
            ],
        }
        policy.write_text(yaml.safe_dump(settings, sort_keys=False))
        made.append(Proxy(policy, port))
    return made


def _until_answered(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise TargetFailed(f"{url} does not answer")
        time.sleep(0.02)


def stop_all(running: Sequence[Proxy]) -> None:
    """End the proxies in order."""
    for proxy in running:
        proxy.stop()
