"""Who is measured when."""

from bench.plan import Profile
from bench.rounds import Bench

TINY = Profile("short", connections=2, per_second=50, seconds=0.1, ramp=0.0, settle=0.05)
HELD = Profile("memory", connections=2, per_second=10, seconds=0.1, ramp=0.0, settle=0.05)


def test_every_round_begins_with_another_target() -> None:
    said: list[str] = []
    with Bench(said.append) as bench:
        one = bench.direct
        another = type(one)("another", one.port, None)
        runs = bench.compare([one, another], [TINY, HELD], 2)
    assert [(run.round, run.profile.kind, run.target) for run in runs] == [
        (0, "short", "direct"),
        (0, "short", "another"),
        (0, "memory", "direct"),
        (0, "memory", "another"),
        (1, "short", "another"),
        (1, "short", "direct"),
        (1, "memory", "another"),
        (1, "memory", "direct"),
    ]
    assert all(run.measured.errors == 0 for run in runs)
    assert said[0].split() == ["round", "1", "short", "direct"]
