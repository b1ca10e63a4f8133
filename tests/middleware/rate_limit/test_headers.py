"""middleware/rate_limit/headers.py."""

import pytest

from middleware.rate_limit.headers import announce, duration
from proxy.kernel.asgi import Header
from proxy.kernel.quotas import Level, Unit, Window
from proxy.kernel.units import Rate


def level(unit: Unit, rate: str, used: int, resets_in: float = 30.2, quota: int = 0) -> Level:
    window = Window(Rate.parse(rate))
    return Level(quota, unit, window.amount, used, resets_in, window)


def told(*levels: Level, names: tuple[str, ...] = ("default", "team")) -> dict[str, str]:
    headers: list[Header] = []
    announce(headers, levels, names)
    return {name.decode(): value.decode() for name, value in headers}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (60.0, "1m0s"),
        (360.0, "6m0s"),
        (3599.2, "1h0m0s"),
        (90_061.0, "25h1m1s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_every_counter_is_told_to_who_reads_the_draft_and_the_tightest_to_openai_clients() -> None:
    assert told(
        Level(0, "streams", 4, 1, 0.0),
        level("requests", "60/minute", 1),
        level("requests", "1000/day", 990),
        level("tokens", "5000/10s", 6000, quota=1),
    ) == {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "10",
        "x-ratelimit-reset-requests": "30.2s",
        "x-ratelimit-limit-tokens": "5000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "30.2s",
        "ratelimit-policy": '"default-streams";q=4;qu="concurrent-requests", "default-requests-minute";q=60;w=60, '
        '"default-requests-day";q=1000;w=86400, "team-tokens-10s";q=5000;w=10;qu="tokens"',
        "ratelimit": '"default-streams";r=3, "default-requests-minute";r=59;t=31, '
        '"default-requests-day";r=10;t=31, "team-tokens-10s";r=0;t=31',
    }


def test_only_what_is_limited_is_told() -> None:
    assert set(told(Level(0, "streams", 4, 1, 0.0))) == {"ratelimit-policy", "ratelimit"}


@pytest.mark.parametrize(("first", "second"), [(50, 10), (10, 50)])
def test_two_entries_of_a_chain_tell_openai_clients_of_one(first: int, second: int) -> None:
    headers: list[Header] = [(b"vary", b"origin")]
    announce(headers, [level("requests", "60/minute", 60 - first)], ["default"])
    announce(headers, [level("requests", "60/minute", 60 - second)], ["default"])
    assert [value for name, value in headers if name == b"x-ratelimit-remaining-requests"] == [b"10"]
    assert len([name for name, _ in headers if name.startswith(b"x-ratelimit-")]) == 3
    assert [name for name, _ in headers if not name.startswith(b"x-")] == [
        b"vary",
        *[b"ratelimit-policy", b"ratelimit"] * 2,
    ]
