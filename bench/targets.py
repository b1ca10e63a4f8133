"""What is measured: no proxy, nginx, and the proxy in its variants. Each is a process of ours on a port of its own."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from bench.meter import family
from bench.plan import HOST, MODEL
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key

ROOT: Final = Path(__file__).parent.parent
PATIENCE: Final = 20.0
"""Seconds until a target that does not answer counts as failed."""
UNBOUNDED: Final[Mapping[str, Mapping[str, object]]] = {
    "auth": {"keys": "keys.yaml"},
    "rate_limit": {"requests": "1000000000/minute", "tokens": "1000000000000/minute", "streams": 1_000_000},
    "queue": {"depth": 100_000},
}
"""Options that replace those of the shipped ``proxy.yaml``: the plugins do all their work, and refuse nobody."""


class TargetFailed(Exception):
    """A target did not start; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers like Ollama.

    Attributes:
        pid: the process that we started; None for no proxy.
    """

    name: str
    port: int
    pid: int | None

    @property
    def pids(self) -> list[int]:
        """The process and its children, whose use of CPU and memory counts."""
        return [] if self.pid is None else family(self.pid)


@dataclass(frozen=True, slots=True)
class Variant:
    """The proxy with one middleware chain: a name, and the list as it stands in a policy file.

    Attributes:
        settings: further sections of the policy file.
    """

    name: str
    middleware: Sequence[Any]
    settings: Mapping[str, Any] = field(default_factory=dict)


def variants() -> tuple[Variant, Variant, list[Variant]]:
    """Return the proxy bare, with the full chain of the shipped ``proxy.yaml``, and that chain without each plugin."""
    shipped = yaml.safe_load((ROOT / "proxy.yaml").read_text())["middleware"]
    chain = [_unbounded(entry) for entry in shipped]
    without = [Variant(f"full - {_name(left_out)}", [e for e in chain if e is not left_out]) for left_out in chain]
    return Variant("bare", []), Variant("full", chain), without


def _name(entry: Any) -> str:
    return entry if isinstance(entry, str) else str(next(iter(entry)))


def _unbounded(entry: Any) -> Any:
    name = _name(entry)
    options = entry[name] if isinstance(entry, dict) else {}
    return {name: {**(options or {}), **UNBOUNDED.get(name, {})}}


def make_key(folder: Path) -> str:
    """Write a key file into `folder` and return the key."""
    key, entry = new_key("bench", now=time.time())
    add_key(folder / "keys.yaml", entry)
    return key


@contextmanager
def backend() -> Iterator[Target]:
    """Run the fake backend, which is also the target "direct"; nothing of it is counted then."""
    command = [sys.executable, "-m", "bench.backend"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Target("direct", int(process.stdout.readline()), process.pid)
        finally:
            stop(process)


@contextmanager
def nginx(upstream: Target, folder: Path) -> Iterator[Target]:
    """Run nginx with one worker as one would for Ollama: no buffering, kept-alive connections; no access log."""
    port = free_port()
    config = folder / "nginx.conf"
    paths = "".join(
        f"  {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"""
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 16000; }}
http {{
  access_log off;
{paths}
  upstream backend {{ server {HOST}:{upstream.port}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {HOST}:{port} backlog=8192;
    keepalive_requests 1000000000;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""
    )
    with _running("nginx", ["nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"], port, folder) as target:
        yield target


@contextmanager
def proxy(variant: Variant, upstream: Target, folder: Path, key: str) -> Iterator[Target]:
    """Run the proxy as a user would. Its log goes through a pipe into ``cat > /dev/null``: written, but not kept."""
    port = free_port()
    config = folder / f"{variant.name.replace(' ', '')}.yaml"
    settings = {
        "listen": f"{HOST}:{port}",
        "backends": [{"name": "bench", "url": f"http://{HOST}:{upstream.port}"}],
        "middleware": list(variant.middleware),
        **variant.settings,
    }
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(config)]
    with _running(variant.name, command, port, folder, key) as target:
        yield target


@contextmanager
def _running(name: str, command: list[str], port: int, folder: Path, key: str = "") -> Iterator[Target]:
    """Run `command` until it answers on `port`, and stop it in the end."""
    said = folder / f"{name.replace(' ', '')}.stderr"
    with said.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
    drain = subprocess.Popen([shutil.which("cat") or "cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(port, key):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TargetFailed(f"{name} does not answer: {said.read_text(errors='replace').strip()}")
            time.sleep(0.05)
        yield Target(name, port, process.pid)
    finally:
        stop(process)
        stop(drain)


def _answers(port: int, key: str) -> bool:
    """Whether a short chat succeeds on `port`."""
    body = b'{"model":"%b","messages":[{"role":"user","content":"hi"}],"stream":false}' % MODEL.encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: {HOST}:{port}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process of ours: politely, then not."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that was free just now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis that keeps nothing, and give its URL."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TargetFailed("redis-server does not answer")
            time.sleep(0.05)
        yield f"redis://{HOST}:{port}/0"
    finally:
        stop(process)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True


def has_redis() -> bool:
    """Return whether Redis is installed, which several workers need."""
    return shutil.which("redis-server") is not None


def has_nginx() -> bool:
    """Whether nginx is installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None
