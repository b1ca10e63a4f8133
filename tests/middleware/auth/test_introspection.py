import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from middleware.auth.address_standing import DEFAULT, Standing
from middleware.auth.fetch import MAX_BYTES
from middleware.auth.introspection import Introspection, IntrospectionOptions
from middleware.auth.lifetimes import Lifetimes
from middleware.auth.provider_queue import AT_ONCE, LINE_AT_ONCE, STRANGERS_AT_ONCE, Rank
from proxy.kernel.errors import Refused
from proxy.testing import ManualClock
from tests.support.provider import Answer, Provider, http, provider
from tests.support.tokens import NOW

POLICIES = frozenset({"research"})
PATH = "/introspect"
TOKEN = "opaque-token~+/=="


class World:
    """A provider that knows one token."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.clock = ManualClock(NOW)
        self.forms: list[Mapping[str, str]] = []
        self.claims: dict[str, Any] = {"active": True, "sub": "alice", "exp": NOW + 300}
        provider.answers[PATH] = self.answer
        self.standing = Standing(DEFAULT, self.clock)
        self.introspection = self.asking()

    def answer(self, form: Mapping[str, str]) -> bytes:
        self.forms.append(form)
        return http(200, self.claims if form.get("token") == TOKEN else {"active": False})

    def asking(self, **options: Any) -> Introspection:
        given = {"url": self.provider.url + PATH, "client_id": "proxy", "client_secret": SecretStr("s3cret"), **options}
        return Introspection(
            IntrospectionOptions(**({"timeout": "500ms"} | given)),
            policies=POLICIES,
            clock=self.clock,
            standing=self.standing,
            lifetimes=Lifetimes(self.clock),
        )

    @property
    def asked(self) -> int:
        return self.provider.asked[PATH]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with provider() as it:
        yield World(it)


async def refused(introspection: Introspection, token: str = TOKEN, address: str = "192.0.2.1") -> Refused:
    with pytest.raises(Refused) as caught:
        await introspection.caller(token, address)
    return caught.value


async def test_the_question_is_that_of_the_rfc(world: World) -> None:
    assert (await world.introspection.caller(TOKEN)).identity == "alice"
    assert world.forms == [{"token": TOKEN}]
    (head,) = world.provider.heads
    assert head.startswith(f"POST {PATH} ")
    assert "authorization: basic " + b64encode(b"proxy:s3cret").decode() in head.replace("Basic", "basic").replace(
        "Authorization", "authorization"
    )


async def test_the_client_may_show_itself_in_the_form(world: World) -> None:
    await world.asking(client_auth="client_secret_post").caller(TOKEN)
    assert world.forms == [{"token": TOKEN, "client_id": "proxy", "client_secret": "s3cret"}]
    assert "authorization" not in world.provider.heads[0].lower()


async def test_an_answer_is_remembered_but_not_beyond_exp(world: World) -> None:
    introspection = world.asking(cache="1h", leeway="10s")
    for _ in range(3):
        await introspection.caller(TOKEN)
    assert world.asked == 1
    world.clock.advance(309)
    await introspection.caller(TOKEN)
    assert world.asked == 1
    world.clock.advance(1)
    assert (await refused(introspection)).status == 401
    assert world.asked == 2


async def test_a_revocation_counts_when_the_cache_has_aged(world: World) -> None:
    await world.introspection.caller(TOKEN)
    world.claims = {"active": False}
    world.clock.advance(59)
    await world.introspection.caller(TOKEN)
    world.clock.advance(1)
    assert (await refused(world.introspection)).status == 401


async def test_an_inactive_token_is_remembered_for_a_short_while(world: World) -> None:
    for _ in range(3):
        assert (await refused(world.introspection, "unknown")).message == "the token is not active"
    assert world.asked == 1
    world.clock.advance(10)
    await refused(world.introspection, "unknown")
    assert world.asked == 2


async def test_many_with_the_same_token_ask_once(world: World) -> None:
    callers = await asyncio.gather(*(world.introspection.caller(TOKEN) for _ in range(100)))
    assert {caller.identity for caller in callers} == {"alice"}
    assert world.asked == 1


class Slow:
    """A provider that answers when it is told to."""

    def __init__(self, world: World) -> None:
        self.gate = asyncio.Event()
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.now = self.most = 0
        self._answer = world.answer
        world.provider.answers[PATH] = self.answer

    async def answer(self, form: Mapping[str, str]) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        self.asked.put_nowait(form["token"])
        await self.gate.wait()
        self.now -= 1
        return self._answer(form)

    async def arrived(self, number: int) -> list[str]:
        async with asyncio.timeout(10):
            return [await self.asked.get() for _ in range(number)]


async def test_only_so_many_questions_are_asked_at_once_and_of_one_address_fewer(world: World) -> None:
    slow = Slow(world)
    introspection = world.asking(timeout="30s")
    first = [asyncio.create_task(refused(introspection, f"a-{number}")) for number in range(24)]
    assert all(token.startswith("a-") for token in await slow.arrived(LINE_AT_ONCE))
    second = [asyncio.create_task(refused(introspection, f"b-{number}", "192.0.2.2")) for number in range(24)]
    assert all(token.startswith("b-") for token in await slow.arrived(STRANGERS_AT_ONCE - LINE_AT_ONCE))
    assert slow.asked.empty()
    slow.gate.set()
    async with asyncio.timeout(10):
        assert {error.status for error in await asyncio.gather(*first, *second)} == {401}
    assert slow.most == STRANGERS_AT_ONCE < AT_ONCE


async def test_a_token_that_was_good_is_asked_about_again_before_all_others(world: World) -> None:
    await world.introspection.caller(TOKEN, "192.0.2.9")
    world.clock.advance(60)
    slow = Slow(world)
    introspection = world.introspection
    tasks = [
        asyncio.create_task(refused(introspection, f"{number}-{address}", f"192.0.2.{address}"))
        for address in range(1, 10)
        for number in range(8)
    ]
    await slow.arrived(STRANGERS_AT_ONCE)
    good = asyncio.create_task(introspection.caller(TOKEN, "192.0.2.9"))
    assert await slow.arrived(1) == [TOKEN]
    slow.gate.set()
    assert (await good).identity == "alice"
    await asyncio.gather(*tasks)


async def test_an_address_with_invented_tokens_is_not_asked_for_any_more(world: World) -> None:
    for number in range(DEFAULT.amount):
        assert (await refused(world.introspection, f"invented-{number}")).status == 401
    assert world.asked == DEFAULT.amount
    error = await refused(world.introspection, TOKEN)
    assert (error.status, error.headers["retry-after"]) == (429, "1")
    assert (await refused(world.introspection, "invented-0")).status == 401  # remembered: it costs nothing
    assert world.asked == DEFAULT.amount
    assert (await world.introspection.caller(TOKEN, "192.0.2.2")).identity == "alice"
    assert (await world.introspection.caller(TOKEN)).identity == "alice"  # known by now
    world.clock.advance(60)
    assert (await world.introspection.caller(TOKEN)).identity == "alice"


async def test_whoever_waits_when_the_budget_is_used_up_is_not_asked_about(world: World) -> None:
    number = LINE_AT_ONCE + DEFAULT.amount + 50
    slow = Slow(world)
    introspection = world.asking(timeout="30s")
    tasks = [asyncio.create_task(refused(introspection, f"invented-{n}")) for n in range(number)]
    await slow.arrived(LINE_AT_ONCE)
    slow.gate.set()
    statuses = [error.status for error in await asyncio.gather(*tasks)]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) == world.asked <= DEFAULT.amount + LINE_AT_ONCE


async def test_the_same_wrong_token_again_and_again_uses_nothing_up(world: World) -> None:
    for _ in range(3 * DEFAULT.amount):
        assert (await refused(world.introspection, "revoked")).status == 401
    assert (await world.introspection.caller(TOKEN)).identity == "alice"


async def test_a_good_token_that_may_not_do_anything_here_is_remembered_too(world: World) -> None:
    introspection = world.asking(scopes=("chat",))
    for _ in range(3):
        error = await refused(introspection)
        assert (error.status, error.code) == (403, "insufficient_scope")
    assert world.asked == 1


async def test_a_clock_that_is_set_back_prolongs_nothing(world: World) -> None:
    introspection = world.asking(cache="1h", leeway="10s")
    await introspection.caller(TOKEN)
    await refused(introspection, "unknown")
    world.clock.set(NOW - 250)
    world.clock.advance(10)
    await refused(introspection, "unknown")
    assert world.asked == 3  # the wrong one was remembered for its 10 s
    world.clock.advance(299)
    assert (await introspection.caller(TOKEN)).identity == "alice"
    assert world.asked == 3
    world.clock.advance(1)
    assert "expired" in (await refused(introspection)).message


async def test_whoever_only_waited_says_nothing_of_the_provider(world: World) -> None:
    async with AsyncExitStack() as others:
        for _ in range(LINE_AT_ONCE):
            await others.enter_async_context(world.introspection._places.place("192.0.2.1", Rank.NEW))
        with capture_logs() as logs:
            assert (await refused(world.introspection)).status == 503
    assert logs == []
    assert world.asked == 0


async def test_many_with_the_same_wrong_token_use_up_one_question(world: World) -> None:
    async with asyncio.timeout(10):
        await asyncio.gather(*(refused(world.introspection, "wrong") for _ in range(100)))
    assert world.asked == 1
    assert world.standing._asked.spent("192.0.2.1") == 1


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {"active": False}),
        ({}, {"exp": NOW - 31}),
        ({}, {"nbf": NOW + 31}),
        ({}, {"exp": str(NOW + 300)}),
        ({}, {"exp": None}),
        ({}, {"nbf": True}),
        ({}, {"cnf": {"jkt": "x"}}),
        ({}, {"sub": None}),
        ({"audience": "ollama"}, {}),
        ({"audience": "ollama"}, {"aud": ["other", 7]}),
        ({"audience": ["ollama", "chat"]}, {"aud": "other"}),
        ({"issuer": "https://login.example.com"}, {}),
        ({"issuer": "https://login.example.com"}, {"iss": "https://evil.example"}),
    ],
)
async def test_who_is_not_let_in(world: World, options: dict[str, Any], changes: dict[str, Any]) -> None:
    world.claims |= changes
    assert (await refused(world.asking(**options))).status == 401


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"audience": "ollama"}, {"aud": "ollama"}),
        ({"audience": ["ollama", "chat"]}, {"aud": ["chat"]}),
        ({"issuer": "https://login.example.com"}, {"iss": "https://login.example.com"}),
        ({"identity": "username", "policy": "groups"}, {"username": "alice", "groups": ["research"]}),
        ({"scopes": ("chat",)}, {"scope": "openid chat"}),
    ],
)
async def test_who_is(world: World, options: dict[str, Any], changes: dict[str, Any]) -> None:
    world.claims |= changes
    assert (await world.asking(**options).caller(TOKEN)).identity == "alice"


async def test_a_missing_scope_is_403(world: World) -> None:
    assert (await refused(world.asking(scopes=("chat",)))).status == 403


def failures() -> dict[str, Answer]:
    async def never(_: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    return {
        "error": http(500),
        "the proxy itself is refused": http(401, {"error": "invalid_client"}),
        "redirect": http(307, None, location="/elsewhere"),
        "no JSON": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue",
        "a list": http(200, []),
        "active is text": http(200, {"active": "true", "sub": "alice"}),
        "active is missing": http(200, {"sub": "alice"}),
        "huge": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b" " * (MAX_BYTES + 1),
        "nothing": b"",
        "silence": never,
    }


@pytest.mark.parametrize("failure", failures())
async def test_a_provider_that_fails_lets_nobody_in(world: World, failure: str) -> None:
    world.provider.answers[PATH] = failures()[failure]
    world.provider.answers["/elsewhere"] = http(200, world.claims)
    error = await refused(world.introspection)
    assert error.status == 503
    assert TOKEN not in error.message
    assert world.provider.asked["/elsewhere"] == 0
    world.provider.answers[PATH] = world.answer  # and the failure is not remembered
    assert (await world.introspection.caller(TOKEN)).identity == "alice"


async def test_a_provider_that_is_not_there() -> None:
    async with provider() as it:
        world = World(it)
    assert (await refused(world.introspection)).status == 503


async def test_a_known_token_survives_a_short_outage(world: World) -> None:
    await world.introspection.caller(TOKEN)
    world.provider.answers[PATH] = http(500)
    assert (await world.introspection.caller(TOKEN)).identity == "alice"


def test_the_url_must_be_https() -> None:
    options = IntrospectionOptions(url="http://login.example.com/i", client_id="a", client_secret=SecretStr("b"))
    with pytest.raises(ValueError, match="https"):
        Introspection(options, policies=POLICIES, clock=ManualClock())
    assert "SecretStr('b')" not in repr(options)
