"""rate_limit on the memory store, and on one that fails. On Redis: tests/live/test_redis_limits.py."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from middleware.rate_limit.plugin import RateLimit
from proxy.kernel.asgi import ASGIApp
from proxy.kernel.attempts import Usage
from proxy.kernel.defined_policies import EntryName
from proxy.kernel.errors import ConnectFailed, Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explains, Explanation
from proxy.kernel.quotas import Admission, Level, Quota
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.token_estimate import Estimate
from proxy.kernel.units import Rate
from proxy.stores.memory import MemoryStore
from proxy.testing import ManualClock, call, make_exchange, ok, suppose
from tests.support.asgi import hands_send_on
from tests.support.limits import EDGES, PROMPT, Backend, ask, caller, limit, passing_of_100, rates

NOON = datetime(2096, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


# Requests


async def test_requests_per_window_and_what_the_caller_is_told(store: MemoryStore, clock: ManualClock) -> None:
    plugin = RateLimit(ok, store=store, requests=Rate.parse("2/minute"))
    first = await ask(plugin)
    assert (first.status, first.header("x-ratelimit-limit-requests")) == (200, "2")
    assert first.header("x-ratelimit-remaining-requests") == "1"
    assert first.header("x-ratelimit-reset-requests") == "1m0s"
    assert first.header("ratelimit-policy") == '"default-requests-minute";q=2;w=60'
    assert first.header("ratelimit") == '"default-requests-minute";r=1;t=60'
    clock.advance(20)
    assert (await ask(plugin)).status == 200
    exchange = caller()
    refused = await call(plugin, exchange)
    assert isinstance(refused.error, Refused)
    assert (refused.error.status, refused.error.code) == (429, "rate_limit_exceeded")
    assert refused.error.headers == {"retry-after": "40"}
    assert (
        refused.error.message == "rate_limit: 2 of 2 requests per minute are used for this identity; try again in 40s"
    )
    assert (b"x-ratelimit-remaining-requests", b"0") in exchange.response_headers
    assert (await ask(plugin, "bob")).status == 200
    clock.advance(40.001)
    assert (await ask(plugin)).status == 200


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        ("identity", {"identity": "alice", "client": "192.0.2.9"}, {"identity": "bob"}),
        ("identity", {"identity": None}, {"identity": None, "client": "192.0.2.9"}),
        ("tenant", {"identity": "bob", "tenant": "acme"}, {"tenant": "other"}),
        ("address", {"identity": "bob"}, {"client": "192.0.2.9"}),
        ("address", {"client": "2001:db8:1:2::1"}, {"client": "2001:db8:1:3::1"}),
        ("model", {"document": {"model": "library/LLAMA3.2:latest"}}, {"document": {"model": "qwen3"}}),
        (
            ("tenant", "model"),
            {"tenant": "acme", "document": {"model": "llama3.2:latest"}},
            {"tenant": "acme", "document": {"model": "qwen3"}},
        ),
    ],
)
async def test_what_counts_together(store: MemoryStore, by: Any, same: dict[str, Any], other: dict[str, Any]) -> None:
    plugin = RateLimit(ok, store=store, requests=Rate.parse("1/minute"), by=by)
    base: dict[str, Any] = {"tenant": "acme"} if by == "tenant" else {}
    if same.get("client", "").startswith("2001"):
        base = {"client": "2001:db8:1:2:9::9"}
    if by == "identity" and same.get("identity", "") is None:
        base = {"identity": None}
    if isinstance(by, tuple):
        base = {"tenant": "acme"}
    assert (await ask(plugin, **base)).status == 200
    assert (await ask(plugin, **same)).error is not None
    assert (await ask(plugin, **other)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        ("POST", "/api/chat", True),
        ("POST", "/v1/embeddings", True),
        ("POST", "/v1/audio/transcriptions", True),
        ("HEAD", "/", False),
        ("GET", "/api/tags", False),
        ("POST", "/api/pull", False),
        ("GET", "/no/such/route", False),
    ],
)
async def test_only_inference_counts(store: MemoryStore, method: str, path: str, counted: bool) -> None:
    plugin = RateLimit(ok, store=store, requests=Rate.parse("1/minute"), tokens=Rate.parse("1000/day"), by="model")
    await ask(plugin, path=path, method=method)
    again = await ask(plugin, path=path, method=method)
    assert (again.error is not None) == counted


async def test_other_routes_count_where_they_are_named(store: MemoryStore) -> None:
    plugin = RateLimit(
        ok, store=store, requests=Rate.parse("1/day"), tokens=Rate.parse("10/day"), routes=frozenset({"manage"})
    )
    assert (await ask(plugin, path="/api/pull")).status == 200
    assert (await ask(plugin, path="/api/pull")).error is not None
    assert (await ask(plugin, path="/api/chat")).status == 200


async def test_the_body_is_not_read_for_a_limit_on_requests(store: MemoryStore) -> None:
    exchange = make_exchange(body=b"{not json")
    assert (await call(RateLimit(ok, store=store, requests=Rate.parse("1/day")), exchange)).status == 200
    assert not exchange.has_body


@pytest.mark.parametrize("body", [b"{not json", b'{"x":' + b"[" * 300 + b"]" * 300 + b"}"])
async def test_a_body_on_which_a_limit_depends_must_be_readable(store: MemoryStore, body: bytes) -> None:
    plugin = RateLimit(ok, store=store, tokens=Rate.parse("10/day"))
    answer = await call(plugin, make_exchange(body=body))
    assert answer.error is not None
    assert answer.error.status == 400


# Several limits


async def test_several_limits_hold_together_and_refusals_cost_nothing(store: MemoryStore) -> None:
    plugin = RateLimit(
        ok,
        store=store,
        entry=EntryName("quota"),
        requests=rates("5/minute", "100/day"),
        limits=(limit(name="team", by="tenant", requests="3/hour", streams=9),),
    )
    answers = [await ask(plugin, f"user {number % 2}", tenant="acme") for number in range(20)]
    assert [answer.status for answer in answers] == [200] * 3 + [None] * 17
    error = answers[-1].error
    assert error is not None
    assert error.message == "quota team: 3 of 3 requests per hour are used for this tenant; try again in 1h0m0s"
    exchange = caller("user 0")  # of no tenant
    assert (await call(plugin, exchange)).header("x-ratelimit-remaining-requests") == "2"
    assert (await ask(plugin, "user 0", tenant="acme")).error is not None
    assert '"default-requests-minute";r=3;' in ((await ask(plugin, "user 1")).header("ratelimit") or "")


async def test_an_entry_may_have_named_limits_only(store: MemoryStore) -> None:
    plugin = RateLimit(ok, store=store, limits=(limit(name="team", requests="1/day"),))
    assert (await ask(plugin)).header("ratelimit-policy") == '"team-requests-day";q=1;w=86400'


async def test_two_entries_count_apart_and_two_policies_of_one_together(store: MemoryStore) -> None:
    one = RateLimit(ok, store=store, entry=EntryName("one"), requests=Rate.parse("1/minute"))
    other = RateLimit(ok, store=store, entry=EntryName("other"), requests=Rate.parse("1/minute"))
    richer = RateLimit(ok, store=store, entry=EntryName("one"), requests=Rate.parse("3/minute"))
    assert (await ask(one)).status == 200
    assert (await ask(other)).status == 200
    assert (await ask(richer)).header("x-ratelimit-remaining-requests") == "1"
    assert (await ask(one)).error is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "default limits nothing: give requests, tokens or streams"),
        ({"requests": Rate.parse("1/day"), "by": ()}, "default: by must name at least one"),
        ({"limits": (limit(name="a", streams=1), limit(name="a", streams=2))}, "two limits are called a"),
        ({"streams": 1, "limits": (limit(name="default", streams=1),)}, "two limits are called default"),
    ],
)
def test_options_that_make_no_sense(store: MemoryStore, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateLimit(ok, store=store, **options)


# Streams and tokens


async def test_streams_run_at_the_same_time(store: MemoryStore) -> None:
    backend = Backend()
    plugin = RateLimit(backend, store=store, streams=2)
    running = [asyncio.create_task(ask(plugin)) for _ in range(2)]
    await backend.arrived(2)
    refused = (await ask(plugin)).error
    assert refused is not None
    assert refused.headers == {"retry-after": "1"}
    assert refused.message == (
        "rate_limit: 2 of 2 requests are running for this identity; try again when a running request has ended"
    )
    backend.release.set()
    assert [(await task).status for task in running] == [200, 200]
    assert (await ask(plugin)).header("ratelimit") == '"default-streams";r=1'


async def tokens_left(store: MemoryStore, plugin: RateLimit) -> str:
    explained = await plugin.explain(caller())
    return explained.text.split(" of ")[0]


@pytest.mark.parametrize(
    ("usage", "failure", "outcome", "counted"),
    [
        (Usage(10, 20), None, "completed", 30),
        (Usage(10, 500), None, "completed", 510),
        (Usage(None, 7, "estimated"), None, "client_gone", PROMPT + 7),
        (Usage(None, 7, "estimated"), None, "upstream_truncated", PROMPT + 7),
        (None, None, "completed", PROMPT),
        (Usage(0, 0), None, "completed", 0),
        (None, ConnectFailed("no"), None, 0),
        (None, Refused(503, "the queue is full"), None, 0),
    ],
)
async def test_tokens_are_reserved_and_settled(
    store: MemoryStore, usage: Usage | None, failure: Exception | None, outcome: Any, counted: int
) -> None:
    backend = Backend(usage, failure)
    plugin = RateLimit(backend, store=store, tokens=Rate.parse("1000/minute"))
    task = asyncio.create_task(call(plugin, caller(), outcome=outcome))
    await backend.arrived()
    assert await tokens_left(store, plugin) == str(PROMPT + 60)
    backend.release.set()
    await task
    assert await tokens_left(store, plugin) == str(counted)


async def test_a_request_that_is_cancelled_gives_everything_back(store: MemoryStore) -> None:
    backend = Backend()
    plugin = RateLimit(backend, store=store, tokens=Rate.parse("1000/minute"), streams=1)
    exchange = caller()
    task = asyncio.create_task(call(plugin, exchange))
    await backend.arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for finish in exchange.finishers():
        finish(exchange)
    assert "0 reservations" in repr(store)
    assert await tokens_left(store, plugin) == "0"


async def test_the_estimate_is_an_option(store: MemoryStore) -> None:
    plugin = RateLimit(ok, store=store, tokens=Rate.parse("100/day"), estimate=Estimate(output=10, max=15))
    small = await ask(plugin, document={"model": "m"})
    assert small.header("x-ratelimit-remaining-tokens") == "87"
    large = await ask(plugin, document={"model": "m", "prompt": "x" * 400})
    assert large.header("x-ratelimit-remaining-tokens") == "82"  # the first came without a report: its prompt


async def test_a_full_day_of_tokens_says_when_it_ends(store: MemoryStore) -> None:
    backend = Backend(Usage(50, 60))
    backend.release.set()
    plugin = RateLimit(backend, store=store, tokens=Rate.parse("100/day"))
    assert (await ask(plugin)).status == 200
    refused = (await ask(plugin)).error
    assert refused is not None
    assert refused.headers == {"retry-after": "43200"}
    assert refused.message == ("rate_limit: 110 of 100 tokens per day are used for this identity; try again in 12h0m0s")


@pytest.mark.parametrize(("options", "passing"), EDGES)
async def test_exactly_the_allowed_number_of_100_at_once_passes(
    store: MemoryStore, options: dict[str, Any], passing: int
) -> None:
    backend = Backend()
    assert await passing_of_100(backend, RateLimit(backend, store=store, **options)) == passing


# A store that cannot be reached


class LostStore(MemoryStore):
    """Unreachable until `back`; its local counters are another store's."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.local = MemoryStore(clock)
        self.back = False

    async def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Admission:
        if not self.back:
            raise StoreUnavailable("redis://h is unreachable")
        return await super().admit(quotas, tokens)

    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        if not self.back:
            raise StoreUnavailable("redis://h is unreachable")
        return await super().look(quotas)

    async def known(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        if not self.back:
            raise StoreUnavailable("redis://h is unreachable")
        return await super().known(quotas)


async def test_open_is_no_limit(clock: ManualClock) -> None:
    plugin = RateLimit(ok, store=LostStore(clock), requests=Rate.parse("1/day"), on_store_failure="open")
    answers = [await ask(plugin) for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    assert answers[-1].header("ratelimit") is None


async def test_closed_lets_nothing_through(clock: ManualClock) -> None:
    store = LostStore(clock)
    plugin = RateLimit(ok, store=store, requests=Rate.parse("1/day"), on_store_failure="closed")
    refused = (await ask(plugin)).error
    assert isinstance(refused, Refused)
    assert (refused.status, refused.code) == (503, "limits_unavailable")
    assert refused.headers == {"retry-after": "1"}
    store.back = True
    assert (await ask(plugin)).status == 200


async def test_local_is_a_share_of_the_limit_in_this_process(clock: ManualClock) -> None:
    store = LostStore(clock)
    plugin = RateLimit(ok, store=store, requests=Rate.parse("10/minute"), streams=8, local_share=0.3)
    answers = [await ask(plugin) for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 3 + [None] * 2
    assert answers[0].header("x-ratelimit-limit-requests") == "3"
    assert "0 reservations" in repr(store.local)
    store.back = True
    assert (await ask(plugin)).header("x-ratelimit-remaining-requests") == "9"


async def test_a_request_is_settled_where_it_was_let_through(clock: ManualClock) -> None:
    store = LostStore(clock)
    backend = Backend(Usage(1, 2))
    plugin = RateLimit(backend, store=store, tokens=Rate.parse("1000/minute"))
    task = asyncio.create_task(ask(plugin))
    await backend.arrived()
    store.back = True
    backend.release.set()
    await task
    assert "0 reservations" in repr(store.local)
    assert "1 token counters" in repr(store.local)
    assert "0 token counters" in repr(store)


async def test_each_limit_has_its_own_rule(clock: ManualClock) -> None:
    store = LostStore(clock)
    limits = (limit(name="free", requests="1/day", on_store_failure="open"), limit(name="few", requests="4/day"))
    plugin = RateLimit(ok, store=store, limits=limits)
    answers = [await ask(plugin) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, None, None]
    assert answers[0].header("ratelimit-policy") == '"few-requests-day";q=2;w=86400'
    assert answers[2].error is not None
    assert "rate_limit few: 2 of 2" in answers[2].error.message
    strict = limit(name="strict", streams=1, on_store_failure="closed")
    guarded = RateLimit(ok, store=store, limits=(*limits, strict))
    error = (await ask(guarded)).error
    assert error is not None
    assert error.status == 503


# Before the body


UNREAD: list[tuple[dict[str, Any], bool]] = [
    ({"requests": rates("1/minute")}, True),
    ({"requests": rates("1/month"), "by": "address"}, True),
    ({"tokens": rates("1/day")}, True),
    ({"limits": (limit(name="all", by="tenant", requests="1/day"),)}, True),
    ({"requests": rates("1/minute"), "by": "model"}, False),
    ({"requests": rates("1/minute"), "by": ("identity", "model")}, False),
    ({"requests": rates("2/minute")}, False),
    ({"requests": rates("1/minute"), "routes": frozenset({"manage"})}, False),
]
"""Options of which one request uses up what is allowed, and whether the next one is refused unread."""


@pytest.mark.parametrize(("options", "early"), UNREAD)
async def test_a_full_counter_refuses_before_the_body_is_read(
    store: MemoryStore, options: dict[str, Any], early: bool
) -> None:
    plugin = RateLimit(ok, store=store, **options)
    await plugin.before_body(caller())
    assert (await call(plugin, await answered(caller()))).status == 200
    before = [level.used for rule in plugin._rules for level in await store.look([rule.quota(caller())])]
    if early:
        exchange = caller()
        with pytest.raises(Refused) as caught:
            await plugin.before_body(exchange)
        late = (await ask(plugin)).error
        assert isinstance(late, Refused)
        assert (caught.value.status, caught.value.message) == (429, late.message)
        assert caught.value.headers == late.headers
        assert any(name == b"ratelimit" for name, _ in exchange.response_headers)
        assert exchange.document is None
    else:
        await plugin.before_body(caller())
    after = [level.used for rule in plugin._rules for level in await store.look([rule.quota(caller())])]
    assert before == after


async def answered(exchange: Exchange) -> Exchange:
    suppose(exchange, usage=Usage(5, 5))
    return exchange


async def test_it_is_exact_about_who_has_room_again(store: MemoryStore, clock: ManualClock) -> None:
    plugin = RateLimit(ok, store=store, requests=Rate.parse("1/minute"))
    await ask(plugin)
    for identity, seconds, refused in (("alice", 0, True), ("bob", 0, False), ("alice", 59, True), ("alice", 2, False)):
        clock.advance(seconds)
        try:
            await plugin.before_body(caller(identity))
        except Refused:
            assert refused
        else:
            assert not refused


async def test_a_running_request_is_a_place_until_it_ends(store: MemoryStore) -> None:
    backend = Backend()
    plugin = RateLimit(backend, store=store, streams=1)
    task = asyncio.create_task(ask(plugin))
    await backend.arrived()
    with pytest.raises(Refused, match="when a running request has ended"):
        await plugin.before_body(caller())
    backend.release.set()
    await task
    await plugin.before_body(caller())


async def test_who_may_have_more_after_a_reload_is_not_refused(store: MemoryStore) -> None:
    await ask(RateLimit(ok, store=store, requests=Rate.parse("1/minute")))
    await RateLimit(ok, store=store, requests=Rate.parse("2/minute")).before_body(caller())


async def test_while_the_store_is_away_its_rules_hold_before_the_body_too(clock: ManualClock) -> None:
    store = LostStore(clock)
    closed = RateLimit(ok, store=store, requests=Rate.parse("1/day"), on_store_failure="closed")
    with pytest.raises(Refused) as caught:
        await closed.before_body(caller())
    assert (caught.value.status, caught.value.code) == (503, "limits_unavailable")
    await RateLimit(ok, store=store, requests=Rate.parse("1/day"), on_store_failure="open").before_body(caller())
    local = RateLimit(ok, store=store, requests=Rate.parse("2/day"), entry=EntryName("local"))
    await local.before_body(caller())
    assert (await ask(local)).status == 200
    with pytest.raises(Refused, match="1 of 1"):
        await local.before_body(caller())


# Explaining


async def test_it_explains_and_counts_nothing(store: MemoryStore) -> None:
    plugin = RateLimit(ok, store=store, requests=Rate.parse("1/day"), tokens=Rate.parse("100/day"))
    assert isinstance(plugin, Explains)
    for _ in range(3):
        assert await plugin.explain(caller()) == Explanation(
            "pass",
            "0 of 1 requests per day are used for this identity; 0 of 100 tokens per day are used for this identity; "
            f"it would reserve {PROMPT + 60} tokens",
        )
    await ask(plugin)
    assert await plugin.explain(caller()) == Explanation(
        "refuse", "rate_limit: 1 of 1 requests per day are used for this identity; try again in 12h0m0s"
    )
    assert await plugin.explain(caller(path="/api/tags", method="GET")) == Explanation(
        "skip", "only inference requests are limited"
    )


async def test_it_explains_what_holds_while_the_store_is_away(clock: ManualClock) -> None:
    plugin = RateLimit(ok, store=LostStore(clock), requests=Rate.parse("1/day"), on_store_failure="closed")
    assert await plugin.explain(caller()) == Explanation(
        "refuse", "the counters cannot be read (redis://h is unreachable); for this while default is closed"
    )


async def test_nothing_of_it_runs_per_chunk(store: MemoryStore) -> None:
    def limited(inner: ASGIApp) -> RateLimit:
        return RateLimit(inner, store=store, requests=rates("2/minute"), tokens=rates("1000/day"), streams=2)

    assert await hands_send_on(limited, caller())
