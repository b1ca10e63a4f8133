"""proxy/server/systemd.py."""

import asyncio
import os
import select
import signal
import socket
import sys
from pathlib import Path

import pytest

from proxy.server import systemd
from proxy.simulator import Ollama
from tests.proxy.test_cli import ROOT
from tests.support.process import start_process
from tests.support.wire import ask


def manager(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(20)
    return sock


def test_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with manager(tmp_path / "notify") as sock:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.ready()
        systemd.ready(reloaded=True)
        systemd.stopping()
        said = [sock.recv(200).decode() for _ in range(4)]
    assert said[0] == said[2] == "READY=1"
    assert said[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert said[3] == "STOPPING=1"


@pytest.mark.parametrize("path", ["", "relative", "/nobody/there"])
def test_nobody_listens(path: str) -> None:
    assert not systemd.notify("READY=1", env={"NOTIFY_SOCKET": path})


def test_an_abstract_socket() -> None:
    name = f"ollama-proxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        assert systemd.notify("READY=1", env={"NOTIFY_SOCKET": "@" + name})
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("env", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}])
def test_sockets_of_others_are_not_ours(env: dict[str, str]) -> None:
    assert systemd.inherited_sockets(env) == []
    assert not env


async def test_a_service_with_notification_and_socket_activation(tmp_path: Path) -> None:
    """As systemd starts it: the socket is fd 3, readiness is told, SIGTERM is answered with STOPPING and exit 0."""
    async with Ollama() as sim:
        held = sim.fault("stall", route="/api/version")
        with manager(tmp_path / "notify") as told, socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            start = (
                "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
                "os.execv(sys.executable, [sys.executable, '-m', 'proxy.cli', 'serve', '--backend', sys.argv[2]])"
            )
            process = await start_process(
                sys.executable,
                "-c",
                start,
                str(listening.fileno()),
                sim.url,
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "NOTIFY_SOCKET": str(tmp_path / "notify"),
                    "LISTEN_FDS": "1",
                },
                pass_fds=(listening.fileno(),),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await sim.wait_for(lambda: sim.seen("/api/version"), timeout=20.0)
                assert (await ask(("127.0.0.1", port), "GET", "/-/readyz")).status == 503
                assert not select.select([told], [], [], 0)[0]  # the host has not said yet what models it has
                held.release()
                assert await asyncio.to_thread(told.recv, 100) == b"READY=1"
                reply = await ask(("127.0.0.1", port), "POST", "/api/generate", {"model": "llama3.2", "prompt": "hi"})
                assert reply.clean
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(told.recv, 100) == b"STOPPING=1"
                assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
