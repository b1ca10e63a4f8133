"""bench/scale.py: the page has the tables that the numbers give, and the numbers are of the plans in force."""

from dataclasses import replace

import orjson

from bench.scale import NUMBERS, PAGE, PLANS, bounds_table, costs, fleet_table, simulate, with_tables

MEASURED = {
    "ping": 5.0,
    "admit": 50.0,
    "settle": 30.0,
    "add": 200.0,
    "bytes": 1000.0,
    "claim": 150.0,
    "append": 40.0,
    "beat": 50.0,
    "read": 50.0,
    "finish": 150.0,
}


def test_the_page_shows_the_numbers() -> None:
    numbers = orjson.loads(NUMBERS.read_bytes())
    page = PAGE.read_text("utf-8")
    assert with_tables(page, numbers) == page
    assert [row["name"] for row in numbers["fleet"]] == [plan.name for plan in PLANS]


def test_what_the_page_says_holds_for_its_numbers() -> None:
    rows = {row["name"]: row for row in orjson.loads(NUMBERS.read_bytes())["fleet"]}
    for plan in PLANS:
        assert rows[plan.name]["most_leased"] <= plan.slots
        assert rows[plan.name]["trips"] <= 2
    for name in ("half busy", "just busy", "three times too much", "one tenant asks for all", "ten proxies die"):
        assert rows[name]["fairness"] >= 0.95
    assert rows["three times too much"]["slot_use"] >= 0.95
    assert rows["half busy"]["commands"] < rows["half busy, no permits"]["commands"]


def test_one_row() -> None:
    plan = replace(PLANS[0], proxies=4, hosts=10, tenants=20, seconds=200.0)
    row = simulate(plan, costs(MEASURED))
    assert 0.4 <= row["slot_use"] <= 0.6
    assert row == simulate(plan, costs(MEASURED))
    assert f"| half busy | {row['requests']:,.0f} |" in fleet_table([row])


def test_what_one_node_is_enough_for() -> None:
    table = bounds_table(MEASURED)
    assert "release) | 5,600 |" in table  # 180 µs each
    assert "4 appends a second each | 6,200 |" in table
