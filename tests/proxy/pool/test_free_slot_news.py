"""proxy/pool/free_slot_news.py."""

import asyncio

from proxy.pool.free_slot_news import FreeSlotNews
from proxy.pool.lease import Lease
from proxy.pool.request_needs import NOTHING, Need
from tests.support.options import make_backend


async def test_each_listener_hears_of_many_changes_once() -> None:
    news, heard = FreeSlotNews(), list[str]()
    news.tell_soon()  # to nobody
    news.listen(lambda: heard.append("one"))
    news.listen(lambda: heard.append("two"))
    await asyncio.sleep(0)
    assert not heard
    news.tell_soon()
    news.tell_soon()
    assert not heard
    await asyncio.sleep(0)
    assert heard == ["one", "two"]
    news.tell_soon()
    await asyncio.sleep(0)
    assert len(heard) == 4


async def test_only_a_lease_that_had_a_slot_is_news() -> None:
    news, heard = FreeSlotNews(), list[None]()
    news.listen(lambda: heard.append(None))
    backend = make_backend("a", "http://127.0.0.1:1")
    for need, times in ((NOTHING, 0), (Need(model="m", runs=True), 1)):
        Lease(backend, need, freed=news.freed).give_back()
        await asyncio.sleep(0)
        assert len(heard) == times
