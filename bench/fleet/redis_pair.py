"""A primary Redis, its replica, and their Sentinel: processes to be killed, frozen, and failed over."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from bench.plan import HOST
from bench.targets import PATIENCE, TargetFailed, free_port

NAME: Final = "main"
DOWN_AFTER: Final = 2000
"""Milliseconds after which Sentinel takes a primary that does not answer for dead."""
KEEPS: Final = ('save ""', "appendonly yes", "repl-diskless-sync-delay 0")
SLOW: Final = 0.01
"""Seconds between two looks at what is waited for."""


class Node:
    """One server, on a port that it keeps; it keeps what it acknowledged in `folder`, over a crash as well."""

    def __init__(self, folder: Path, *lines: str) -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = Redis(host=HOST, port=self.port, socket_timeout=1.0, socket_connect_timeout=1.0)
        self._config = folder / "redis.conf"  # which Sentinel has rewritten, so that a role outlives a restart
        self._config.write_text("\n".join([f"port {self.port}", f"bind {HOST}", f"dir {folder}", *lines, ""]))

    def start(self) -> None:
        """Start it, and return when it answers."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise TargetFailed("redis-server is not installed")
        command = [binary, *self.arguments()]
        with self._folder.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self.answers, "redis-server to answer")

    def arguments(self) -> list[str]:
        """Return what follows the program in the command line."""
        return [str(self._config)]

    def answers(self) -> bool:
        """Return whether it answers."""
        with suppress(RedisError):
            return bool(self.client.ping())
        return False

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Let it take connections and bytes, and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


class Sentinel(Node):
    """A Sentinel that needs nobody's consent."""

    def __init__(self, folder: Path, primary: Node) -> None:
        super().__init__(
            folder,
            f"sentinel monitor {NAME} {HOST} {primary.port} 1",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}",
            f"sentinel failover-timeout {NAME} 2000",
        )

    def arguments(self) -> list[str]:
        """Return what follows the program in the command line."""
        return [*super().arguments(), "--sentinel"]


class Pair:
    """Two servers, of which one is the primary, and their Sentinel."""

    def __init__(self, folder: Path) -> None:
        first = Node(folder / "redis-0", *KEEPS)
        self.nodes = (first, Node(folder / "redis-1", *KEEPS, f"replicaof {HOST} {first.port}"))
        self._sentinel = Sentinel(folder / "sentinel", first)

    @property
    def url(self) -> str:
        """How a policy file names it."""
        return f"redis+sentinel://{HOST}:{self._sentinel.port}/{NAME}"

    def primary(self) -> Node:
        """Return the server that Sentinel says is the primary."""
        said = self._sentinel.client.execute_command("SENTINEL", "get-master-addr-by-name", NAME)
        return next(node for node in self.nodes if node.port == int(said[1]))

    def start(self) -> None:
        """Start all three, and return when a failover would succeed."""
        for node in (*self.nodes, self._sentinel):
            node.start()
        self.until_replicated()

    def until_replicated(self) -> None:
        """Return when the replica has what the primary has, and Sentinel knows of it."""
        until(self._replicated, "the replica to follow")

    def fail_over(self) -> None:
        """Ask Sentinel to make the replica the primary, and return when it has."""
        before = self.primary()

        def asked() -> bool:
            with suppress(RedisError):  # an earlier failover may not be over for it
                self._sentinel.client.execute_command("SENTINEL", "FAILOVER", NAME)
                return True
            return False

        until(asked, "Sentinel to fail over")
        self.until_moved(before)

    def until_moved(self, before: Node) -> None:
        """Return when another than `before` is the primary, and takes writes."""
        until(lambda: self.primary() is not before, "a failover")
        until(self._writable, "the new primary to take writes")

    def until_writable(self) -> None:
        """Return when the primary takes writes."""
        until(self._writable, "the primary to take writes")

    def stop(self) -> None:
        """End all three."""
        for node in (self._sentinel, *self.nodes):
            node.thaw()
            node.kill()
            node.client.close()

    def _writable(self) -> bool:
        with suppress(RedisError):
            return _role(self.primary()) == b"master"
        return False

    def _replicated(self) -> bool:
        with suppress(RedisError):
            primary = self.primary()
            other = next(node for node in self.nodes if node is not primary)
            known: Any = self._sentinel.client.execute_command("SENTINEL", "replicas", NAME)
            info: Any = other.client.info("replication")
            return (
                _role(primary) == b"master"
                and info.get("master_port") == primary.port
                and info.get("master_link_status") == "up"
                and any(fields[b"port"] == b"%d" % other.port and fields[b"flags"] == b"slave" for fields in known)
            )
        return False


def _role(node: Node) -> bytes:
    said: Any = node.client.execute_command("ROLE")
    return bytes(said[0])


def until(condition: Callable[[], bool], what: str) -> None:
    """Return when `condition` holds; raises TargetFailed where it does not within the time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TargetFailed(f"waited in vain for {what}")
        time.sleep(SLOW)


@contextmanager
def redis_pair(folder: Path) -> Iterator[Pair]:
    """Run them all; yields them when a failover would succeed."""
    pair = Pair(folder)
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()
