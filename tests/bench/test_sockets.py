"""What a frame of a WebSocket costs, held against a chunk over HTTP."""

import pytest

from bench.sockets import PATHS, Cost, Way, compare, main

MOST = 1.5
"""How much more than a chunk a frame may cost."""
MEMORY = 40_000
"""Bytes that a socket may take while its answer streams, all of its request included."""


def bounded(costs: dict[Way, Cost]) -> bool:
    websocket, http = costs["websocket"], costs["http"]
    return websocket.chunk <= MOST * http.chunk and websocket.memory <= MEMORY


@pytest.mark.timeout(240)
@pytest.mark.timing(reason="it compares the CPU time that two processes take, one after the other")
def test_a_frame_costs_little_more_than_a_chunk() -> None:
    for _ in range(3):  # whatever else the machine does can only make a measurement worse
        # Of few streams each would carry much of what the process takes once.
        found = compare(1000, 1.0, 200, 1, lambda _: None)
        assert found.keys() == PATHS.keys()
        if all(bounded(costs) for costs in found.values()):
            return
    raise AssertionError(found)


def test_it_tells_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--streams", "5", "--seconds", "0.1", "--pace", "10", "--rounds", "1", "--chain", "bare"]) == 0
    told = capsys.readouterr().out
    assert "events over websocket" in told
    assert " ×)" in told
