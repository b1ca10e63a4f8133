"""What stands in front of the hosts: the proxy as a user starts it, or nginx."""

import http.client
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import orjson
import yaml

from bench.plan import HOST
from bench.storm.host import PARALLEL
from bench.targets import PATIENCE, ROOT, TargetFailed, free_port, stop

NGINX: Final = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
events {{ worker_connections 4000; }}
http {{
  access_log off;
{paths}
  upstream hosts {{ {servers} keepalive 64; }}
  server {{
    listen {host}:{port};
    location / {{
      proxy_pass http://hosts;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_connect_timeout 2s;
      proxy_buffering off;
    }}
  }}
}}
"""
"""nginx as one would set it up for streams; which failures it passes to the next host is its default."""

CHAIN: Final = ("logging", "queue", "retry")
"""The chain of the proxy; all of it has the options that it has by default, and so has the pool."""


@dataclass(frozen=True, slots=True)
class Server:
    """What is asked: its name, its port, and the file with its log, None where it keeps none."""

    name: str
    port: int
    log: Path | None

    def attempts(self) -> tuple[int, int]:
        """Return the numbers of requests and of attempts in the log of a proxy that has stopped."""
        found: Counter[str] = Counter()
        for line in self.log.read_bytes().splitlines() if self.log is not None else ():
            event = orjson.loads(line)
            if event.get("event") == "request" and event.get("route") not in (None, "/-/readyz"):
                found["requests"] += 1
                found["attempts"] += event.get("attempts") or 0
        return found["requests"], found["attempts"]


@contextmanager
def proxy(hosts: Sequence[int], folder: Path) -> Iterator[Server]:
    """Run the proxy from a policy file with nothing but the hosts and the chain."""
    port, log = free_port(), folder / "proxy.log"
    policy = folder / "storm.yaml"
    settings = {
        "listen": f"{HOST}:{port}",
        "backends": [
            {"name": f"b{number}", "url": f"http://{HOST}:{host}", "slots": PARALLEL}
            for number, host in enumerate(hosts, 1)
        ],
        "middleware": list(CHAIN),
    }
    policy.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(policy)]
    with log.open("wb") as out, (folder / "proxy.err").open("wb") as err, _running(command, port, out, err):
        yield Server("proxy", port, log)


@contextmanager
def nginx(hosts: Sequence[int], folder: Path) -> Iterator[Server]:
    """Run nginx with one worker."""
    port, config = free_port(), folder / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    config.write_text(
        NGINX.format(
            folder=folder,
            host=HOST,
            port=port,
            paths="".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in kinds),
            servers=" ".join(f"server {HOST}:{host};" for host in hosts),
        )
    )
    command = [nginx_path() or "nginx", "-p", str(folder), "-c", str(config), "-e", f"{folder}/nginx.log"]
    with (folder / "nginx.out").open("wb") as out, _running(command, port, out, out):
        yield Server("nginx", port, None)


def nginx_path() -> str | None:
    """Return where nginx is, None where it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def _running(command: Sequence[str], port: int, out: IO[bytes], err: IO[bytes]) -> Iterator[None]:
    """Run `command` until the block ends, once it answers on `port`."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TargetFailed(f"{command[0]} does not answer; see {err.name}")
            time.sleep(0.05)
        yield
    finally:
        stop(process)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/api/version")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
