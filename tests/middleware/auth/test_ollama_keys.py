from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence

import pytest

from middleware.auth import ollama_keys
from middleware.auth.authorized_keys import AuthorizedKeys, parse_authorized_keys
from middleware.auth.ollama_keys import AGAIN, Connection, OllamaKeys, Replays, SignedRequest
from proxy.kernel.errors import Refused
from proxy.kernel.quotas import Admission, Quota
from proxy.kernel.store import StoreUnavailable
from proxy.stores.memory import MemoryStore
from proxy.testing import ManualClock
from tests.support.ollama_cli import OllamaKey

NOW = 1_800_000_000.0
WINDOW = 60.0


class World:
    def __init__(self, make: Callable[..., OllamaKey]) -> None:
        self.key = make("alice")
        self.other = make("mallory")
        self.listed: AuthorizedKeys = parse_authorized_keys(self.key.line.encode(), "keys", policies=frozenset())
        self.keys = OllamaKeys(WINDOW)

    async def ask(
        self,
        credential: str,
        method: str = "POST",
        path: str = "/api/chat",
        query: str = "",
        now: float = NOW,
        connection: Connection | None = None,
    ) -> str:
        request = SignedRequest(method, path, (query or f"ts={int(NOW)}").encode(), connection)
        return str((await self.keys.caller(credential, request, self.listed, now)).identity)

    async def status(self, credential: str, **request: object) -> int:
        with pytest.raises(Refused) as refused:
            await self.ask(credential, **request)  # type: ignore[arg-type]  # of the types that `ask` says
        return refused.value.status


@pytest.fixture
def world(ollama_key: Callable[..., OllamaKey]) -> World:
    return World(ollama_key)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/chat"), ("GET", "/api/tags"), ("DELETE", "/api/delete"), ("HEAD", "/api/blobs/sha256:0af1")],
)
async def test_what_the_cli_signs_gets_in(world: World, method: str, path: str) -> None:
    assert await world.ask(world.key.authorization(method, path, NOW), method, path) == "alice"


async def test_a_query_with_more_in_it_is_signed_as_a_whole(world: World) -> None:
    query = f"model=llama3&ts={int(NOW)}"
    credential = world.key.sign(f"POST,/api/chat?{query}")
    assert await world.ask(credential, query=query) == "alice"
    assert await world.status(credential, query=query.replace("llama3", "other")) == 401


def attempts(world: World) -> dict[str, tuple[str, dict[str, object]]]:
    good = world.key.authorization("POST", "/api/chat", NOW)
    blob, signature = good.split(":")
    stamp = int(NOW)
    return {
        "a key that is not listed": (world.other.authorization("POST", "/api/chat", NOW), {}),
        "another's signature under a listed key": (
            f"{blob}:{world.other.authorization('POST', '/api/chat', NOW).split(':')[1]}",
            {},
        ),
        "another method": (good, {"method": "DELETE"}),
        "another path": (good, {"path": "/api/pull"}),
        "another case of the path": (good, {"path": "/API/chat"}),
        "a longer path": (good, {"path": "/api/chat/"}),
        "another time stamp": (good, {"query": f"ts={stamp + 1}"}),
        "something more in the query": (good, {"query": f"ts={stamp}&x=1"}),
        "two time stamps": (
            world.key.sign(f"POST,/api/chat?ts={stamp}&ts={stamp}"),
            {"query": f"ts={stamp}&ts={stamp}"},
        ),
        "no time stamp": (world.key.sign("POST,/api/chat?x=1"), {"query": "x=1"}),
        "an empty time stamp": (world.key.sign("POST,/api/chat?ts="), {"query": "ts="}),
        "a time stamp with a sign": (world.key.sign(f"POST,/api/chat?ts=%2B{stamp}"), {"query": f"ts=%2B{stamp}"}),
        "a time stamp with a fraction": (world.key.sign(f"POST,/api/chat?ts={NOW}"), {"query": f"ts={NOW}"}),
        "a time stamp in Arabic digits": (world.key.sign("POST,/api/chat?ts=٣"), {"query": "ts=٣"}),
        "an enormous time stamp": (world.key.sign("POST,/api/chat?ts=" + "9" * 500), {"query": "ts=" + "9" * 500}),
        "milliseconds": (world.key.sign(f"POST,/api/chat?ts={stamp}000"), {"query": f"ts={stamp}000"}),
        "an empty signature": (f"{blob}:", {}),
        "a short signature": (f"{blob}:{b64encode(b64decode(signature)[:-1]).decode()}", {}),
        "a long signature": (f"{blob}:{b64encode(b64decode(signature) + b'x').decode()}", {}),
        "a signature of zeros": (f"{blob}:{b64encode(bytes(64)).decode()}", {}),
        "not base64": (f"{blob}:{signature[:-3]}", {}),
        "the raw key, without its SSH frame": (f"{b64encode(b64decode(blob)[-32:]).decode()}:{signature}", {}),
        "the path with a prefix": (world.key.authorization("POST", "/k/x/api/chat", NOW), {}),
        "no query signed": (world.key.sign("POST,/api/chat"), {}),
    }


async def test_everything_else_is_refused(world: World) -> None:
    for case, (credential, request) in attempts(world).items():
        assert await world.status(credential, **request) == 401, case
    assert await world.ask(world.key.authorization("POST", "/api/chat", NOW)) == "alice"


@pytest.mark.parametrize(("off", "accepted"), [(-61, False), (-60, True), (0, True), (60, True), (61, False)])
async def test_the_window_of_the_time_stamp(world: World, off: int, accepted: bool) -> None:
    credential, query = world.key.authorization("POST", "/api/chat", NOW + off), f"ts={int(NOW) + off}"
    if accepted:
        assert await world.ask(credential, query=query) == "alice"
    else:
        assert await world.status(credential, query=query) == 401


async def test_a_signature_is_taken_once_within_the_window(world: World) -> None:
    query = f"ts={int(NOW) + 60}"
    credential = world.key.authorization("POST", "/api/chat", NOW + 60)
    assert await world.ask(credential, query=query) == "alice"
    for later in (0.0, 1.0, 60.0, 120.0):
        assert await world.status(credential, query=query, now=NOW + later) == 401
    assert await world.status(credential, query=query, now=NOW + 120.1) == 401  # too old by then


HERE: Connection = ("192.0.2.1", 50000)


async def test_a_client_may_use_it_again_over_its_connection_for_a_moment(world: World) -> None:
    """``ollama run`` asks /api/show twice within the second that its time stamp has."""
    credential = world.key.authorization("POST", "/api/show", NOW)
    for later in (0.0, 0.1, AGAIN - 0.1):
        assert await world.ask(credential, path="/api/show", now=NOW + later, connection=HERE) == "alice"
    for stranger in (None, ("192.0.2.1", 50001), ("192.0.2.2", 50000)):
        assert await world.status(credential, path="/api/show", connection=stranger) == 401
    assert await world.ask(credential, path="/api/show", connection=HERE) == "alice"
    assert await world.status(credential, path="/api/show", now=NOW + AGAIN, connection=HERE) == 401
    assert await world.status(credential, path="/api/chat", connection=HERE) == 401  # it is not signed for that


async def test_where_a_connection_may_be_shared_it_says_nothing(world: World) -> None:
    credential = world.key.authorization("POST", "/api/show", NOW)
    assert await world.ask(credential, path="/api/show") == "alice"
    for connection in (None, HERE, HERE):
        assert await world.status(credential, path="/api/show", connection=connection) == 401


async def test_a_replay_is_no_better_the_second_time(world: World) -> None:
    store = Shared()
    credential = world.key.authorization("POST", "/api/chat", NOW)
    world.keys = OllamaKeys(WINDOW, store)
    assert await world.ask(credential, connection=HERE) == "alice"
    world.keys = OllamaKeys(WINDOW, store)  # another proxy, which learns of it from the store
    for _ in range(3):
        assert await world.status(credential, connection=("203.0.113.6", 6)) == 401


async def test_what_was_signed_before_the_start_may_have_been_used_before_it(world: World) -> None:
    for stamp, accepted in ((NOW - 1, False), (NOW, True), (NOW + 1, True)):
        world.keys = OllamaKeys(WINDOW, replays=Replays(NOW + 0.9))
        credential, query = world.key.authorization("POST", "/api/chat", stamp), f"ts={int(stamp)}"
        for _ in range(2):
            if accepted:
                assert await world.ask(credential, query=query, connection=HERE) == "alice"
            else:
                assert await world.status(credential, query=query, connection=HERE) == 401


async def test_a_shared_store_remembers_across_a_start(world: World) -> None:
    store = Shared()
    credential, query = world.key.authorization("POST", "/api/chat", NOW - 1), f"ts={int(NOW) - 1}"
    world.keys = OllamaKeys(WINDOW, store, Replays(NOW))
    assert await world.ask(credential, query=query) == "alice"
    world.keys = OllamaKeys(WINDOW, store, Replays(NOW))
    assert await world.status(credential, query=query) == 401
    store.down = True
    other = world.key.authorization("GET", "/api/tags", NOW - 1)
    assert await world.status(other, method="GET", path="/api/tags", query=query) == 401  # nobody can know


async def test_a_signature_that_was_refused_does_not_use_up_the_true_one(world: World) -> None:
    good = world.key.authorization("POST", "/api/chat", NOW)
    blob = good.split(":")[0]
    assert await world.status(f"{blob}:{b64encode(bytes(64)).decode()}") == 401
    assert await world.ask(good) == "alice"


async def test_each_key_has_signatures_of_its_own(ollama_key: Callable[..., OllamaKey]) -> None:
    world = World(ollama_key)
    both = f"{world.key.line}\n{world.other.line}".encode()
    world.listed = parse_authorized_keys(both, "keys", policies=frozenset())
    assert await world.ask(world.key.authorization("POST", "/api/chat", NOW)) == "alice"
    assert await world.ask(world.other.authorization("POST", "/api/chat", NOW)) == "mallory"


async def test_an_expired_key_is_refused(world: World) -> None:
    line = f'expiry-time="20200101" {world.key.line}'.encode()
    world.listed = parse_authorized_keys(line, "keys", policies=frozenset())
    assert await world.status(world.key.authorization("POST", "/api/chat", NOW)) == 401


class Shared(MemoryStore):
    """A store that proxies share, as far as one process can have one."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.url = "redis://somewhere"
        self.local = MemoryStore(ManualClock())
        self.down = False

    async def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Admission:
        assert not any(quota.asked_again for quota in quotas)  # or each signature would be remembered as full
        if self.down:
            raise StoreUnavailable("down")
        return await super().admit(quotas, tokens)


async def test_proxies_that_share_a_store_take_a_signature_once_between_them(world: World) -> None:
    store = Shared()
    credential = world.key.authorization("POST", "/api/chat", NOW)
    world.keys = OllamaKeys(WINDOW, store)
    assert await world.ask(credential) == "alice"
    world.keys = OllamaKeys(WINDOW, store)
    assert await world.status(credential) == 401
    assert await world.ask(world.key.authorization("GET", "/api/tags", NOW), "GET", "/api/tags") == "alice"


async def test_while_the_store_is_down_each_proxy_remembers_for_itself(world: World) -> None:
    store = Shared()
    store.down = True
    credential = world.key.authorization("POST", "/api/chat", NOW)
    world.keys = OllamaKeys(WINDOW, store)
    assert await world.ask(credential) == "alice"
    assert await world.status(credential) == 401


def test_old_signatures_are_forgotten() -> None:
    replays = Replays()
    for second in range(1000):
        assert replays.first(second, b"%d" % second, float(second), WINDOW)
    assert len(replays) == WINDOW + 1


def test_one_that_grew_too_old_while_the_store_was_asked_is_not_remembered() -> None:
    replays = Replays()
    assert replays.first(0, b"a", 0.0, WINDOW)
    assert replays.first(100, b"b", 100.0, WINDOW)  # forgets the other
    replays.let_in(0, b"a", HERE, 100.0)
    assert not replays.again(0, b"a", HERE, 100.0)
    assert len(replays) == 1
    assert replays.first(200, b"c", 200.0, WINDOW)
    assert len(replays) == 1


def test_a_full_memory_lets_nothing_through_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_keys, "MOST_SEEN", 2)
    replays = Replays()
    assert replays.first(0, b"a", 0.0, WINDOW)
    assert replays.first(0, b"b", 0.0, WINDOW)
    with pytest.raises(Refused) as refused:
        replays.first(0, b"c", 0.0, WINDOW)
    assert refused.value.status == 503
    assert replays.first(61, b"d", 61.0, WINDOW)


async def test_a_clock_that_is_set_back_lets_no_signature_in_again(world: World) -> None:
    credential, query = world.key.authorization("POST", "/api/chat", NOW), f"ts={int(NOW)}"
    assert await world.ask(credential, query=query, connection=HERE) == "alice"
    later = NOW + 2 * WINDOW
    other = world.key.authorization("POST", "/api/chat", later)
    assert await world.ask(other, query=f"ts={int(later)}", now=later) == "alice"  # the first one is forgotten by now
    for moment in (NOW - 30, NOW, NOW + 30):
        assert await world.status(credential, query=query, now=moment, connection=HERE) == 401
    fresh = world.key.authorization("GET", "/api/tags", later)
    assert await world.ask(fresh, "GET", "/api/tags", query=f"ts={int(later)}", now=later) == "alice"


async def test_over_its_connection_too_a_moment_is_over_when_the_clock_is_set_back(world: World) -> None:
    credential = world.key.authorization("POST", "/api/show", NOW)
    assert await world.ask(credential, path="/api/show", connection=HERE) == "alice"
    assert await world.status(credential, path="/api/show", now=NOW - 1, connection=HERE) == 401
