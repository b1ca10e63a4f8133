"""proxy/journal/redis_news.py; what depends on the whole journal is in test_redis.py."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from proxy.journal import redis_news
from proxy.journal.redis_news import News
from tests.support.redis import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    opened = Redis.from_url(server.url)
    yield opened
    await opened.aclose()


async def test_a_bell_rings_at_each_message_of_its_channel(client: Redis) -> None:
    news = News(client)
    async with news.bell("a") as first, news.bell("a") as second, news.bell("b") as other, asyncio.timeout(10):
        assert news.hears("a")
        assert not news.hears("c")
        await client.publish("a", "")
        await first.wait(3600)
        await second.wait(3600)
        await client.publish("b", "")
        await other.wait(3600)
    await news.aclose()


async def test_only_so_many_channels_stay_subscribed(
    client: Redis, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_news, "KEPT", 3)
    news = News(client)
    for name in "abcdef":
        async with news.bell(name):
            pass
    assert [name for name in "abcdef" if news.hears(name)] == ["d", "e", "f"]
    await client.ping()
    assert server.command("PUBSUB", "NUMSUB", "a") == b"*2\r\n$1\r\na\r\n:0\r\n"
    async with news.bell("a") as bell, asyncio.timeout(10):
        await client.publish("a", "")
        await bell.wait(3600)
    await news.aclose()


async def test_it_subscribes_anew(client: Redis) -> None:
    news = News(client)
    async with news.bell("a") as bell, asyncio.timeout(10):
        news.renew()
        async with news.bell("a"):  # returns when it is subscribed
            await client.publish("a", "")
        await bell.wait(3600)
    await news.aclose()


async def test_a_server_that_is_not_there_hangs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_news, "CONFIRMED", 0.01)
    client = Redis(port=1)
    news = News(client)
    async with news.bell("a"):  # returns, although nobody confirms it
        assert not news.hears("a")
    await news.aclose()
    await client.aclose()
