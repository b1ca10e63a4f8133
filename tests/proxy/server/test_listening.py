"""proxy/server/listening.py."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.server.listeners import ServerError
from proxy.server.listening import Listening, listen
from tests.support.options import server_options


def test_unix_sockets_that_were_made_here_are_removed_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listening = listen(server_options(listen=[f"unix:{path}"]))
    Listening(listening.sockets).remove_unix_sockets()
    assert path.exists(), "it belongs to who made it"
    listening.close()
    assert not path.exists()


def test_a_socket_that_another_server_put_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listening = listen(server_options(listen=[f"unix:{path}"]))
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listening.close()
        assert path.exists()


def test_what_others_can_reach_is_refused_where_only_this_machine_may() -> None:
    options = replace(server_options(), listen=["0.0.0.0:0"], local_only=True)
    with pytest.raises(ServerError, match="asks who is calling"):
        listen(options)
    listening = listen(replace(options, local_only=False))
    (address,) = listening.exposed
    assert address.startswith("0.0.0.0:")
    listening.close()
