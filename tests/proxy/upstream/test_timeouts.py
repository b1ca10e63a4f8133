"""proxy/upstream/timeouts.py."""

import math
from dataclasses import fields, replace

import pytest

from proxy.upstream.timeouts import NEVER, Timeouts


def test_never_holds_for_every_time_out() -> None:
    assert {getattr(NEVER, field.name) for field in fields(Timeouts)} == {math.inf}


def test_a_request_gets_the_times_of_its_kind() -> None:
    timeouts = Timeouts(connect=1, load=2, first_byte=3, idle=4, write=5, total=6, tools=7, manage=8)
    assert timeouts.for_cold() == replace(timeouts, first_byte=2)
    assert timeouts.for_tools() == replace(timeouts, idle=7)
    managing = timeouts.for_manage()
    assert (managing.load, managing.first_byte, managing.idle) == (8, 8, 8)
    assert (managing.connect, managing.write, managing.total, managing.timer) == (1, 5, 6, "manage")


def test_the_object_itself_is_the_extension() -> None:
    timeouts = replace(NEVER, connect=1.0)
    assert Timeouts.of(timeouts) is timeouts


def test_without_an_extension_nothing_runs_out() -> None:
    assert Timeouts.of(None) == NEVER


@pytest.mark.parametrize(
    ("extension", "timeouts"),
    [
        ({}, NEVER),
        ({"read": 3.0}, replace(NEVER, first_byte=3.0, idle=3.0)),
        (
            {"connect": 1.0, "read": None, "write": 2.0, "pool": 9.0},
            replace(NEVER, connect=1.0, write=2.0),
        ),
    ],
)
def test_what_httpx_says_means_the_same(extension: dict[str, float | None], timeouts: Timeouts) -> None:
    assert Timeouts.of(extension) == timeouts


def test_httpx_reads_it_like_its_own_mapping() -> None:
    timeouts = replace(NEVER, connect=1.0, first_byte=9.0, idle=2.0)
    assert {name: timeouts.get(name) for name in ("connect", "pool", "read", "write", "first_byte")} == {
        "connect": 1.0,
        "pool": 1.0,
        "read": 2.0,
        "write": None,
        "first_byte": None,
    }
    assert timeouts.get("write", 5.0) == 5.0
