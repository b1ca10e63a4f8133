"""bench/workers.py: what the table says of numbers that are known."""

from bench.load import Measured
from bench.plan import SHORT
from bench.rounds import Run
from bench.workers import ONE, TWO, gains, records


def run(number: int, target: str, requests: int, *shares: int) -> Run:
    return Run(number, target, SHORT, Measured(seconds=1.0, requests=requests, shares=list(shares)))


def test_it_is_the_busiest_process_that_counts() -> None:
    runs = [
        run(0, ONE, 1000, 500_000_000),
        run(0, TWO, 2000, 1_000_000, 500_000_000, 499_000_000),
        run(1, ONE, 1000, 500_000_000),
        run(1, TWO, 2000, 1_000_000, 749_000_000, 250_000_000),
    ]
    head, per_cpu, cost, share, promise = gains(runs)
    assert head == ["", ONE, TWO, "ratio"]
    assert per_cpu[3] == "1.67 (1.34 to 2.00)"
    assert cost[1:] == ["500", "500", "1.00 (1.00 to 1.00)"]
    assert share[2:] == ["0.62", "0.50 to 0.75"]
    assert promise[2:] == ["≥ 1.8 x", "BROKEN"]
    assert [record["largest share"] for record in records(runs)] == [1.0, 0.5, 1.0, 0.749]
