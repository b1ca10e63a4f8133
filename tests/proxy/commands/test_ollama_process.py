"""proxy/commands/ollama_process.py."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import pytest

from proxy.commands.ollama_process import num_parallel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")

Start = Callable[..., int]
"""Starts a process that listens, and returns its port."""


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def listen(environment: dict[str, str], *, name: str = "ollama", host: str = "127.0.0.1") -> int:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as listener:
                listener.bind((host, 0))
                listener.listen()
                port: int = listener.getsockname()[1]
                process = subprocess.Popen(
                    [name, "60"], executable=which("sleep"), pass_fds=[listener.fileno()], env=environment
                )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return port

        yield listen


def test_it_is_that_of_the_process_on_the_port_and_of_no_other_one(start: Start) -> None:
    ports = {number: start({"OLLAMA_NUM_PARALLEL": str(number)}) for number in (2, 7, 4)}
    assert {number: num_parallel("127.0.0.1", port) for number, port in ports.items()} == {2: 2, 7: 7, 4: 4}


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({}, 1),
        ({"OLLAMA_NUM_PARALLEL": "0"}, 1),
        ({"OLLAMA_NUM_PARALLEL": "x"}, 1),
        ({"OLLAMA_NUM_PARALLEL": ' "3" '}, 3),
    ],
)
def test_the_number_is_read_as_ollama_reads_it(start: Start, environment: dict[str, str], number: int) -> None:
    assert num_parallel("127.0.0.1", start(environment)) == number


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2", "::", "::1"])
def test_it_may_listen_on_one_address_or_on_all(start: Start, host: str) -> None:
    try:
        port = start({"OLLAMA_NUM_PARALLEL": "6"}, host=host)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    assert num_parallel(asked, port) == 6
    if host == "127.0.0.2":
        assert "nothing listens" in str(num_parallel("127.0.0.1", port))


def test_why_it_is_not_known(start: Start) -> None:
    other = start({"OLLAMA_NUM_PARALLEL": "4"}, name="/usr/bin/nginx")
    assert num_parallel("127.0.0.1", other) == f"on port {other} is nginx, not ollama"
    assert num_parallel("192.0.2.1", 11434) == "it runs on another machine"
    assert num_parallel("no-such-host.invalid", 11434) == "it runs on another machine"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert str(num_parallel("127.0.0.1", port)).startswith(f"nothing listens on port {port} here")


def test_a_process_of_somebody_else_cannot_be_read(start: Start, tmp_path: Path) -> None:
    """There the sockets are seen, but not who has them."""
    port = start({"OLLAMA_NUM_PARALLEL": "4"})
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(Path("/proc/net/tcp").read_text())
    assert "belongs to somebody else" in str(num_parallel("127.0.0.1", port, tmp_path))
    inode = next(
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(f":{port:04X}")
    )
    (tmp_path / "12" / "fd").mkdir(parents=True)
    (tmp_path / "12" / "fd" / "3").symlink_to(f"socket:[{inode}]")
    (tmp_path / "12" / "cmdline").write_bytes(b"/usr/bin/ollama\0serve\0")
    assert "settings of process 12 may not be read" in str(num_parallel("127.0.0.1", port, tmp_path))
