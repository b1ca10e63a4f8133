"""bench/recording.py: what is recorded where, and what the table says of numbers that are known."""

from bench.load import Measured
from bench.plan import STREAM
from bench.recording import price, recorded
from bench.report import FULL
from bench.rounds import Run
from bench.targets import variants


def test_the_plugin_stands_behind_auth_in_each_store() -> None:
    _, full, _ = variants()
    memory, sqlite = recorded(full, ["memory", "sqlite:state.db"])
    assert (memory.name, sqlite.name) == ("recorded, memory", "recorded, sqlite")
    assert sqlite.settings == {"store": "sqlite:state.db"}
    assert len(memory.middleware) == len(full.middleware) + 1
    names = [next(iter(entry)) for entry in memory.middleware]
    assert names.index("resumable") == names.index("auth") + 1


def test_each_is_compared_with_the_plain_chunk_of_its_round() -> None:
    def run(number: int, target: str, nanoseconds: int) -> Run:
        return Run(number, target, STREAM, Measured(seconds=1.0, chunks=1000, cpu={"target": nanoseconds}))

    runs = [
        *(run(0, FULL, 20_000_000), run(0, "recorded, memory", 28_000_000), run(0, "recorded, sqlite", 34_000_000)),
        *(run(1, FULL, 10_000_000), run(1, "recorded, memory", 13_000_000), run(1, "recorded, sqlite", 16_000_000)),
    ]
    assert price(runs)[1:] == [
        [FULL, "15.0", "1.00", ""],
        ["recorded, memory", "20.5", "1.35", "≤ 1.5 x: kept"],
        ["recorded, sqlite", "25.0", "1.65", "≤ 1.5 x: BROKEN"],
    ]
