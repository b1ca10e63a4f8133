"""proxy/pool/comebacks.py; tests/live/test_silence.py has hosts that really come back."""

import asyncio
from time import monotonic

import pytest

from proxy.kernel.attempts import Attempt
from proxy.kernel.exchange import Exchange
from proxy.pool.backend import Backend
from proxy.pool.comebacks import Comebacks, may_come_back, still_tried
from proxy.pool.free_slot_news import FreeSlotNews
from proxy.testing import make_exchange
from tests.support.options import health_rules, make_backend


def backend(name: str = "b1") -> Backend:
    found = make_backend(name, "http://127.0.0.1:1", rules=health_rules(down_after=1, up_after=1))
    found.health.probe_succeeded(0.0)  # one that never answered did not go away
    return found


def sent(*attempts: tuple[str, str | None], running: str | None = None) -> Exchange:
    """Return a request that was sent to these backends from the time 10 to 20, with these errors."""
    history = tuple(
        Attempt(name, 10.0, 20.0, False, error, silent=error not in (None, "status_500")) for name, error in attempts
    )
    tried = (*(name for name, _ in attempts), *([] if running is None else [running]))
    return make_exchange("POST", "/api/chat", history=history, tried=tried)


@pytest.mark.parametrize(
    ("error", "failed_at", "back_at", "still"),
    [
        ("upstream_unreachable", 21.0, 25.0, False),
        ("first_byte_timeout", 12.0, 15.0, False),
        ("first_byte_timeout", 5.0, 9.0, True),
        ("status_500", 12.0, 15.0, True),
        ("status_500", 21.0, 25.0, False),
        (None, 21.0, 25.0, True),
    ],
    ids=["restarted", "thawed meanwhile", "back before", "answered after it", "restarted after it", "it answered"],
)
def test_who_came_back_since(error: str | None, failed_at: float, back_at: float, still: bool) -> None:
    host = backend()
    host.health.probe_failed(failed_at, "refused")
    host.health.probe_succeeded(back_at)
    assert still_tried(sent(("b1", error)), {"b1": host}) == (("b1",) if still else ())


def test_where_it_runs_now_it_is_tried() -> None:
    host = backend()
    host.health.probe_failed(21.0, "refused")
    host.health.probe_succeeded(25.0)
    assert still_tried(sent(("b1", "upstream_unreachable"), running="b1"), {"b1": host}) == ("b1", "b1")
    assert still_tried(sent(("b9", "upstream_unreachable")), {"b1": host}) == ("b9",)  # a reload took it away


def test_for_whom_it_is_worth_to_wait() -> None:
    up, gone, other, lacking, drained = (backend(name) for name in ("up", "gone", "other", "lacking", "drained"))
    everybody = (up, gone, other, lacking, drained)
    for host in (gone, other, lacking, drained):
        host.health.probe_failed(1.0, "refused")
    lacking.models = {}
    drained.health.draining = True
    assert may_come_back(sent(), everybody, "m") == [gone, other]
    pinned = make_exchange("POST", "/api/chat", pinned="other")
    assert may_come_back(pinned, everybody, "m") == [other]


def test_who_answered_the_request_with_an_error_is_not_waited_for_unless_gone() -> None:
    host = backend()
    host.health.request_failed(1.0, "500")
    assert host.health.state == "suspect"
    assert may_come_back(sent(("b1", "status_500")), [host], None) == []
    assert may_come_back(sent(("b1", "upstream_unreachable")), [host], None) == [host]
    host.health.probe_failed(2.0, "refused")
    assert may_come_back(sent(("b1", "status_500")), [host], None) == [host]


def test_one_that_was_never_up_counts_only_where_no_other_was() -> None:
    never, once = backend("b1"), backend("b2")
    for host in (never, once):
        host.health.probe_failed(1.0, "refused")
    assert may_come_back(sent(), [never, once], "m") == [never, once]
    once.seen_at = 1.0
    assert may_come_back(sent(), [never, once], "m") == [once]


async def wait(
    host: Backend, seconds: float, *, there: asyncio.Event, news: FreeSlotNews, watched: bool = True
) -> bool:
    return await Comebacks(news).wait([host], seconds, there=there.is_set, ask=lambda _: watched)


async def test_it_waits_for_one_that_went_away_just_now() -> None:
    host, there, news = backend(), asyncio.Event(), FreeSlotNews()
    host.health.probe_failed(monotonic(), "refused")
    waiting = asyncio.create_task(wait(host, 60.0, there=there, news=news))
    await asyncio.sleep(0)
    host.health.probe_failed(monotonic(), "refused")
    news.tell_soon()
    await asyncio.sleep(0)
    assert not waiting.done()
    there.set()
    news.tell_soon()
    assert await waiting


async def test_one_that_went_away_long_ago_is_asked_once_more() -> None:
    host, there, news = backend(), asyncio.Event(), FreeSlotNews()
    host.health.probe_failed(monotonic() - 61.0, "refused")
    waiting = asyncio.create_task(wait(host, 60.0, there=there, news=news))
    await asyncio.sleep(0)
    assert not waiting.done()
    host.health.probe_failed(monotonic(), "refused")
    news.tell_soon()
    assert not await waiting


@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_the_patience_ends(seconds: float) -> None:
    host, there = backend(), asyncio.Event()
    host.health.probe_failed(monotonic(), "refused")
    assert not await wait(host, seconds, there=there, news=FreeSlotNews())


async def test_nobody_waits_for_what_nobody_asks() -> None:
    host, there = backend(), asyncio.Event()
    host.health.probe_failed(monotonic(), "refused")
    assert not await wait(host, 60.0, there=there, news=FreeSlotNews(), watched=False)


async def test_a_caller_who_leaves_leaves_nothing_behind() -> None:
    host, there, news = backend(), asyncio.Event(), FreeSlotNews()
    host.health.probe_failed(monotonic(), "refused")
    comebacks = Comebacks(news)
    waiting = asyncio.create_task(comebacks.wait([host], 60.0, there=there.is_set, ask=lambda _: True))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not comebacks._waiting
