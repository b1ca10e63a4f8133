"""Medians, ratios, tables, from runs made up here."""

from typing import Any

import orjson

from bench.load import Measured, Spread
from bench.plan import FIRST, MEMORY, SHORT, STREAM, Profile
from bench.report import METRICS, comparison, cost, document, doubts, machine, plugin_costs, ratio, table, values
from bench.rounds import Run

PER_CHUNK, PER_REQUEST, TRANSIT = METRICS[:3]


def run(number: int, target: str, profile: Profile = STREAM, **measured: Any) -> Run:
    return Run(number, target, profile, Measured(**measured))


def streams(number: int, target: str, us_per_chunk: int) -> Run:
    return run(
        number,
        target,
        chunks=1000,
        cpu={"target": us_per_chunk * 10**6, "backend": 10**6},
        transit=Spread(50_000, 90_000),
    )


RUNS = [
    streams(0, "nginx", 10),
    streams(0, "full", 15),
    streams(1, "full", 60),  # disturbed, as was its neighbour
    streams(1, "nginx", 40),
    streams(2, "nginx", 10),
    streams(2, "full", 16),
    run(0, "direct", chunks=1000, cpu={"target": 0, "backend": 10**7}, transit=Spread(20_000, 30_000)),
]


def test_values_by_round() -> None:
    assert values(RUNS, PER_CHUNK, "full") == {0: 15.0, 1: 60.0, 2: 16.0}
    assert values(RUNS, PER_CHUNK, "direct") == {}
    assert values(RUNS, TRANSIT, "direct") == {0: 20.0}


def test_ratios_are_between_neighbours_of_one_round() -> None:
    assert ratio(RUNS, PER_CHUNK, "full") == 1.5
    assert ratio(RUNS, PER_CHUNK, "bare") is None


def test_costs_are_differences_within_a_round() -> None:
    assert cost(RUNS, PER_CHUNK, "full", "nginx") == (6.0, 5.0, 20.0)
    assert cost(RUNS, PER_CHUNK, "full", "nobody") is None


def test_memory_is_what_the_streams_added() -> None:
    memory = next(metric for metric in METRICS if metric.profile == "memory-1000")
    held = run(0, "full", MEMORY[0], rss_before=10 * 2**20, rss=10 * 2**20 + 1000 * 25 * 1024)
    assert values([held], memory, "full") == {0: 25.0}


def test_the_table_has_medians_ratios_and_what_was_promised() -> None:
    rows = comparison(RUNS)
    assert rows[0] == ["", "nginx", "full", "direct", "full ÷ nginx", "promised"]
    assert rows[1] == ["CPU per streamed chunk, µs", "10.0", "16.0", "-", "1.50", "≤ 2 x kept"]
    assert rows[2] == ["chunk transit p50, µs", "50.0", "50.0", "20.0", "1.00", "≤ 2 x kept"]
    dear = comparison([streams(0, "nginx", 10), streams(0, "full", 21)])
    assert dear[1][-1] == "≤ 2 x BROKEN"


def test_without_nginx_there_is_no_ratio() -> None:
    assert comparison([streams(0, "full", 21)])[1] == ["CPU per streamed chunk, µs", "21.0", "-", "≤ 2 x"]


def test_what_a_plugin_costs() -> None:
    rows = plugin_costs([streams(0, "full", 20), streams(0, "full - auth", 18)])
    assert rows[1] == ["full - auth", "+2.0 (+2.0 to +2.0)", "-"]


def test_a_busy_machine_failures_and_lateness_are_told() -> None:
    assert doubts(RUNS) == []
    busy = run(0, "direct", transit=Spread(1, 9_000_000))
    failed = run(0, "full", SHORT, errors=2, late=5, requests=100)
    said = doubts([busy, failed])
    assert "9.0 ms" in said[0]
    assert said[1:] == ["2 requests failed.", "5 requests were not sent in time, as all connections were in use."]


def test_the_table_is_aligned_markdown() -> None:
    assert table([["", "a"], ["x", "1,000"]]) == "|   |     a |\n|---|------:|\n| x | 1,000 |"


def test_every_metric_reads_a_run_of_its_profile() -> None:
    profiles = {profile.name: profile for profile in (STREAM, FIRST, SHORT, *MEMORY)}
    spread = Spread(1000, 2000)
    full = Measured(1.0, 10, 10, 0, 0, {"target": 1, "backend": 1, "clients": 1}, 1, 2, spread, spread, spread)
    for metric in METRICS:
        profile = profiles[metric.profile]
        assert metric.read(full, profile) is not None
        assert metric.read(Measured(), profile) is None


def test_the_document_is_json_and_says_on_what_it_was_found() -> None:
    found = orjson.loads(orjson.dumps(document(RUNS, [])))
    assert found["comparison"][0]["metric"] == "CPU per streamed chunk, µs"
    assert found["runs"][0]["values"]["CPU per streamed chunk, µs"] == 10.0
    assert found["machine"].keys() >= {"processor", "cores", "kernel", "python", "uvloop", "load_average"}
    assert machine()["cores"] >= 1
