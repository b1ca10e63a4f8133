"""A redis-server of the test's own: on a free port, without persistence, to be killed and stopped at will."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.process import free_port

Server = TypeVar("Server", bound="RedisServer")

BINARY = shutil.which("redis-server")


class RedisServer:
    """One server process.

    Args:
        options: further command-line options.
        port: where it listens; 0 for a free one, which it keeps over a restart.
    """

    def __init__(self, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._options = options
        self._sent = Path(tempfile.gettempdir()) / f"redis-{os.getpid()}-{self.port}.rdb"
        """Where a replica puts what it was sent, which every server with this file would begin with."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def arguments(self) -> list[str]:
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return [*fixed, "--dir", str(self._sent.parent), "--dbfilename", self._sent.name, *self._options]

    def start(self) -> None:
        """Start it, and return when it answers."""
        assert BINARY is not None
        self._process = subprocess.Popen([BINARY, *self.arguments()], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while self.command("PING") != b"+PONG\r\n":
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it take connections and bytes, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on; what came meanwhile is worked off."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Return the first bytes of the raw answer; nothing where there is none."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request.encode())
            return connection.recv(65536)
        return b""

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()
        self._sent.unlink(missing_ok=True)


class Sentinel(RedisServer):
    """A Sentinel that watches one primary, called ``main``, and needs nobody's consent."""

    def __init__(self, folder: Path, primary: RedisServer) -> None:
        super().__init__()
        self._config = folder / "sentinel.conf"
        self._config.write_text(
            f"""port {self.port}
            bind 127.0.0.1
            dir {folder}
            sentinel monitor main 127.0.0.1 {primary.port} 1
            sentinel down-after-milliseconds main 200
            sentinel failover-timeout main 1000
            """
        )

    def arguments(self) -> list[str]:
        return [str(self._config), "--sentinel"]


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Run a server; skips where none is installed, but not in CI, which installs it."""
    with started(RedisServer(*options)) as server:
        yield server


@contextmanager
def started(server: Server) -> Iterator[Server]:
    """Run `server`, as `redis_server` does."""
    if BINARY is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing: .ci/run must install it")
        pytest.skip("redis-server is not installed")
    try:
        server.start()
        yield server
    finally:
        server.stop()
