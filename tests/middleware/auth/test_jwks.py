"""Where keys come from: how often a provider is asked, and what happens while it is slow, huge, redirecting or down."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from middleware.auth.fetch import MAX_BYTES, Fetcher, tls_context
from middleware.auth.jwks import AFTER_FAILURE, FRESH_DEFAULT, FixedKeys, RemoteKeys
from proxy.kernel.errors import Refused
from proxy.testing import ManualClock
from tests.support.provider import Answer, Provider, http, provider
from tests.support.tokens import jwk, rsa_key

KEYS = "/keys"
COOL_DOWN = 30.0
KEEP = 3600.0


class World:
    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.clock = ManualClock()
        self.publish("one")
        self.keys = self.source()

    def publish(self, *kids: str, **headers: str) -> None:
        self.provider.answers[KEYS] = http(200, {"keys": [jwk(rsa_key("rsa"), kid=kid) for kid in kids]}, **headers)

    def source(self, *, discovery: bool = False) -> RemoteKeys:
        return RemoteKeys(
            issuer=self.provider.url,
            url=None if discovery else self.provider.url + KEYS,
            fetcher=Fetcher(timeout=0.5, tls=tls_context(None)),
            clock=self.clock,
            cool_down=COOL_DOWN,
            keep=KEEP,
        )

    @property
    def fetches(self) -> int:
        return self.provider.asked[KEYS]

    async def found(self, kid: str | None) -> list[str | None]:
        return [key.kid for key in await self.keys.find(kid)]

    async def unavailable(self, kid: str = "one") -> bool:
        try:
            await self.keys.find(kid)
        except Refused as refused:
            return refused.status == 503 and float(refused.headers["retry-after"]) >= 1
        return False


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with provider() as it:
        yield World(it)


async def test_keys_are_fetched_when_first_needed_and_then_kept(world: World) -> None:
    assert world.fetches == 0
    for _ in range(3):
        assert await world.found("one") == ["one"]
    assert world.fetches == 1


async def test_a_thousand_unknown_ids_make_at_most_one_fetch_a_cool_down(world: World) -> None:
    await world.found("one")
    world.clock.advance(COOL_DOWN)
    for number in range(1000):
        assert await world.found(f"random-{number}") == []
    assert world.fetches == 2
    world.clock.advance(COOL_DOWN)
    for number in range(1000):
        assert await world.found(f"other-{number}") == []
    assert world.fetches == 3


async def test_a_thousand_unknown_ids_at_once_and_cold_make_one_fetch(world: World) -> None:
    found = await asyncio.gather(*(world.found(f"random-{number}") for number in range(1000)))
    assert found == [[]] * 1000
    assert world.fetches == 1


async def test_a_new_key_is_found_at_its_first_use(world: World) -> None:
    await world.found("one")
    world.publish("one", "two")
    world.clock.advance(COOL_DOWN)
    assert await world.found("two") == ["two"]
    assert world.fetches == 2


@pytest.mark.parametrize(
    ("cache_control", "fresh"),
    [
        ("", FRESH_DEFAULT),
        ("max-age=7200", 7200),
        ("public, max-age=120, must-revalidate", 120),
        ("max-age=1", 60),
        ("no-store", 60),
        ("no-cache, max-age=500", 60),
        ("max-age=999999999999999", 24 * 3600),
        ("max-age=-5", FRESH_DEFAULT),
        ("max-age=soon", FRESH_DEFAULT),
    ],
)
async def test_how_long_keys_are_fresh(world: World, cache_control: str, fresh: float) -> None:
    world.publish("one", cache_control=cache_control)
    await world.found("one")
    world.clock.advance(fresh - 1)
    await world.found("one")
    assert world.fetches == 1
    answered = asyncio.Event()

    async def answer(_: object) -> bytes:
        answered.set()
        return http(200, {"keys": [jwk(rsa_key("rsa"), kid="one")]})

    world.provider.answers[KEYS] = answer
    world.clock.advance(1)
    assert await world.found("one") == ["one"]
    async with asyncio.timeout(5):
        await answered.wait()


async def test_aged_keys_are_used_while_new_ones_are_fetched(world: World) -> None:
    await world.found("one")
    gate, asked = asyncio.Event(), asyncio.Event()

    async def slowly(_: object) -> bytes:
        asked.set()
        await gate.wait()
        return http(200, {"keys": [jwk(rsa_key("rsa"), kid="two")]})

    world.provider.answers[KEYS] = slowly
    world.clock.advance(FRESH_DEFAULT)
    for _ in range(10):
        assert await world.found("one") == ["one"]  # nobody waits
    async with asyncio.timeout(5):
        await asked.wait()
    gate.set()
    assert await world.found("two") == ["two"]  # who needs the new ones does
    assert await world.found("one") == []
    assert world.fetches == 2


def bad_answers() -> dict[str, Answer]:
    async def never(_: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    good = {"keys": [jwk(rsa_key("rsa"), kid="one")]}
    return {
        "error": http(500),
        "redirect": http(302, None, location="/elsewhere"),
        "moved": http(308, None, location="/elsewhere"),
        "empty": http(204),
        "no JSON": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "no HTTP": b"hello there\r\n\r\n",
        "nothing": b"",
        "cut": http(200, good)[:-5],
        "not a key set": http(200, {"error": "no"}),
        "no usable key": http(200, {"keys": [{"kty": "oct", "k": "AAAA"}]}),
        "huge": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"[" + b" " * MAX_BYTES,
        "huge by its length": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + b" " * (MAX_BYTES + 1),
        "compressed": http(200, good, content_encoding="gzip")[:-1] + b"\x00",
        "silence": never,
    }


@pytest.mark.parametrize("answer", bad_answers())
async def test_a_provider_that_fails_lets_nobody_in_at_first(world: World, answer: str) -> None:
    world.provider.answers[KEYS] = bad_answers()[answer]
    world.provider.answers["/elsewhere"] = http(200, {"keys": [jwk(rsa_key("rsa"), kid="one")]})
    with capture_logs() as logs:
        assert await world.unavailable()
        assert await world.unavailable()
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["key_set_unavailable"]
    assert world.fetches == 1
    assert world.provider.asked["/elsewhere"] == 0


@pytest.mark.parametrize("answer", bad_answers())
async def test_the_last_good_keys_count_until_their_age_is_up(world: World, answer: str) -> None:
    assert await world.found("one") == ["one"]
    world.provider.answers[KEYS] = bad_answers()[answer]
    world.clock.advance(FRESH_DEFAULT)
    assert await world.found("one") == ["one"]
    assert await world.unavailable("rotated")  # nobody can say that it is not a new key
    world.clock.advance(KEEP - FRESH_DEFAULT - 1)
    assert await world.found("one") == ["one"]
    world.clock.advance(1)
    assert await world.unavailable()


async def test_recovery_is_noticed_soon(world: World) -> None:
    world.provider.answers[KEYS] = http(500)
    assert await world.unavailable()
    world.publish("one")
    world.clock.advance(AFTER_FAILURE - 0.1)
    assert await world.unavailable()
    assert world.fetches == 1
    world.clock.advance(0.1)
    assert await world.found("one") == ["one"]


async def test_a_provider_that_is_not_there() -> None:
    async with provider() as it:
        world = World(it)
    assert await world.unavailable()


async def test_discovery(world: World) -> None:
    discovery = "/.well-known/openid-configuration"
    world.keys = world.source(discovery=True)
    documents: list[object] = [
        {"issuer": "https://evil.example", "jwks_uri": world.provider.url + KEYS},
        {"issuer": world.provider.url + "/", "jwks_uri": world.provider.url + KEYS},
        {"issuer": world.provider.url},
        {"issuer": world.provider.url, "jwks_uri": 7},
        {"issuer": world.provider.url, "jwks_uri": "file:///etc/passwd"},
        {"issuer": world.provider.url, "jwks_uri": "/keys"},
        {"issuer": world.provider.url, "jwks_uri": "http://keys.example/"},
        [],
    ]
    for document in documents:
        world.provider.answers[discovery] = http(200, document)
        assert await world.unavailable()
        world.clock.advance(AFTER_FAILURE)
    assert world.fetches == 0
    world.provider.answers[discovery] = http(200, {"issuer": world.provider.url, "jwks_uri": world.provider.url + KEYS})
    assert await world.found("one") == ["one"]


async def test_a_caller_who_leaves_does_not_stop_the_fetch(world: World) -> None:
    gate, asked = asyncio.Event(), asyncio.Event()

    async def slowly(_: object) -> bytes:
        asked.set()
        await gate.wait()
        return http(200, {"keys": [jwk(rsa_key("rsa"), kid="one")]})

    world.provider.answers[KEYS] = slowly
    leaves, stays = asyncio.create_task(world.found("one")), asyncio.create_task(world.found("one"))
    async with asyncio.timeout(5):
        await asked.wait()
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    gate.set()
    assert await stays == ["one"]
    assert world.fetches == 1


async def test_no_cookie_and_no_secret_goes_to_the_provider(world: World) -> None:
    world.publish("one", set_cookie="session=1")
    await world.found("one")
    world.clock.advance(FRESH_DEFAULT)
    await world.found("two")
    for head in world.provider.heads:
        assert "cookie" not in head.lower()
        assert "authorization" not in head.lower()


def test_a_weak_or_wrong_secret_is_none() -> None:
    for secret in ("", "x" * 31, "é" * 15):
        with pytest.raises(ValueError, match="32 bytes"):
            FixedKeys.secret(secret, bits=256)
    assert FixedKeys.secret("x" * 32, bits=256).good_until == float("inf")
