"""What the owner of an entry may do, straight through the app; tests/live/test_deferred.py asks over sockets."""

import asyncio

import orjson
import pytest

from proxy.deferred.owners_api import OwnersApi
from proxy.deferred.stored_routes import ROUTES, StoredApp
from proxy.kernel.journal import Claim, Entry
from proxy.kernel.routes import RouteTable
from proxy.kernel.store import StoreUnavailable
from proxy.testing import Answer, call, make_exchange
from tests.support.runs import Failing, Told, claimed

CLIENT = "10.0.0.1"


class Api:
    """The app over a journal, asked by Alice."""

    def __init__(self) -> None:
        self.journal = Failing()
        self.told = Told()
        self.app = StoredApp(OwnersApi(self.journal, self.told).handlers)

    async def ask(
        self, path: str, method: str = "GET", identity: str | None = "alice", query: bytes = b"", **headers: str
    ) -> Answer:
        match = RouteTable(ROUTES).match(method, path)
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        exchange = make_exchange(
            method, path, query=query, headers=fields, client=CLIENT, identity=identity, match=match
        )
        return await call(self.app, exchange)

    async def claimed(self, status: int = 200, record: bytes = b"0123456789", flavor: str = "ollama") -> Claim:
        claim = await claimed(self.journal, flavor=flavor)
        if record:
            await self.journal.begin(claim, status, [("content-type", "text/x")])
            await self.journal.append(claim, record)
        return claim

    async def completed(self) -> Entry:
        return await self.journal.finish(await self.claimed(), "completed")


@pytest.fixture
def api() -> Api:
    return Api()


async def test_a_whole_answer(api: Api) -> None:
    entry = await api.completed()
    answer = await api.ask(f"/-/requests/{entry.id}/answer")
    assert (answer.status, answer.body, answer.complete) == (200, b"0123456789", True)
    assert (answer.header("content-type"), answer.header("content-length")) == ("text/x", "10")
    assert answer.header("accept-ranges") == "bytes"


@pytest.mark.parametrize(
    ("wanted", "status", "body", "shown"),
    [
        ("bytes=3-", 206, b"3456789", "bytes 3-9/10"),
        ("bytes=3-4", 206, b"34", "bytes 3-4/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=4-3", 200, b"0123456789", None),
    ],
)
async def test_a_part(api: Api, wanted: str, status: int, body: bytes, shown: str | None) -> None:
    entry = await api.completed()
    answer = await api.ask(f"/-/requests/{entry.id}/answer", range=wanted)
    assert (answer.status, answer.body, answer.header("content-range")) == (status, body, shown)
    assert answer.header("content-length") == str(len(body))


async def test_behind_the_end(api: Api) -> None:
    entry = await api.completed()
    answer = await api.ask(f"/-/requests/{entry.id}/answer", range="bytes=10-")
    assert (answer.status, answer.header("content-range")) == (416, "bytes */10")


async def test_a_part_of_what_grows(api: Api) -> None:
    claim = await api.claimed()
    answer = await api.ask(f"/-/requests/{claim.entry.id}/answer", range="bytes=2-5")
    assert (answer.status, answer.body, answer.header("content-range")) == (206, b"2345", "bytes 2-5/*")
    assert answer.complete


async def test_a_part_of_what_may_have_begun_anew(api: Api) -> None:
    """The tag of an answer says which run made it: behind another one its client gets the whole."""
    entry = await api.completed()
    path = f"/-/requests/{entry.id}/answer"
    etag = (await api.ask(path)).header("etag")
    assert etag == f'"{entry.id}-1"'
    for tag, status, body in [(etag, 206, b"89"), (f'"{entry.id}-2"', 200, b"0123456789")]:
        answer = await api.ask(path, range="bytes=8-", if_range=tag)
        assert (answer.status, answer.body, answer.header("etag")) == (status, body, etag)


async def test_a_part_that_is_still_to_come_is_waited_for(api: Api) -> None:
    claim = await api.claimed()
    path = f"/-/requests/{claim.entry.id}/answer"
    asking = asyncio.create_task(api.ask(path, range="bytes=12-12"))
    beyond = asyncio.create_task(api.ask(path, range="bytes=14-"))
    await asyncio.sleep(0)
    await api.journal.append(claim, b"abc")
    answer = await asking
    assert (answer.status, answer.body, answer.header("content-range")) == (206, b"c", "bytes 12-12/*")
    await api.journal.finish(claim, "completed")
    answer = await beyond
    assert (answer.status, answer.header("content-range")) == (416, "bytes */13")


async def test_nothing_of_it_may_be_kept_by_a_cache(api: Api) -> None:
    entry = await api.completed()
    for path in ("/-/requests", f"/-/requests/{entry.id}", f"/-/requests/{entry.id}/answer"):
        assert (await api.ask(path)).header("cache-control") == "no-store"
    behind = await api.ask(f"/-/requests/{entry.id}/answer", range="bytes=10-")
    assert (behind.status, behind.header("cache-control")) == (416, "no-store")
    unknown = await api.ask("/-/requests/ab")
    assert unknown.error is not None
    assert unknown.error.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("limit", ["0", "x", "9" * 5000])
async def test_what_is_no_limit(api: Api, limit: str) -> None:
    answer = await api.ask("/-/requests", query=f"limit={limit}".encode())
    assert answer.error is not None
    assert answer.error.status == 400


async def test_an_answer_without_a_byte(api: Api) -> None:
    claim = await claimed(api.journal)
    await api.journal.begin(claim, 200, [])
    await api.journal.finish(claim, "completed")
    answer = await api.ask(f"/-/requests/{claim.entry.id}/answer", range="bytes=0-")
    assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "0")


async def test_an_error_is_whole_whatever_part_is_asked_for(api: Api) -> None:
    claim = await api.claimed(status=502, record=b"lost")
    await api.journal.finish(claim, "dead", error="upstream_connection_lost: lost")
    answer = await api.ask(f"/-/requests/{claim.entry.id}/answer", range="bytes=2-")
    assert (answer.status, answer.body, answer.complete) == (502, b"lost", True)


@pytest.mark.parametrize(
    ("flavor", "member"),
    [("ollama", ("error",)), ("openai", ("error", "message")), ("anthropic", ("error", "message"))],
)
async def test_what_was_never_answered_says_why_in_the_flavor_of_the_call(
    api: Api, flavor: str, member: tuple[str, ...]
) -> None:
    claim = await api.claimed(record=b"", flavor=flavor)
    await api.journal.finish(claim, "dead", error="owner_lost: gone")
    answer = await api.ask(f"/-/requests/{claim.entry.id}/answer")
    document = orjson.loads(answer.body)
    for name in member:
        document = document[name]
    assert (answer.status, answer.header("x-error-code")) == (502, "deferred_failed")
    assert document == "the request is dead: owner_lost: gone"


async def test_what_was_cancelled_says_so_once(api: Api) -> None:
    claim = await api.claimed(record=b"")
    path = f"/-/requests/{claim.entry.id}"
    assert orjson.loads((await api.ask(path, "DELETE")).body)["error"] == "cancelled: its owner ended it"
    answer = await api.ask(f"{path}/answer")
    assert (answer.status, orjson.loads(answer.body)["error"]) == (410, "the request is cancelled: its owner ended it")


async def test_what_has_not_begun(api: Api) -> None:
    claim = await api.claimed(record=b"")
    answer = await api.ask(f"/-/requests/{claim.entry.id}/answer")
    assert (answer.status, answer.header("retry-after")) == (202, "2")
    assert orjson.loads(answer.body)["state"] == "running"


async def test_to_cancel_and_to_delete(api: Api) -> None:
    claim = await api.claimed()
    path = f"/-/requests/{claim.entry.id}"
    assert orjson.loads((await api.ask(path, "DELETE")).body)["state"] == "cancelled"
    assert [entry.state for entry in api.told.entries] == ["cancelled"]
    assert (await api.ask(path, "DELETE")).status == 204
    assert (await api.ask(path, "DELETE")).error is not None


@pytest.mark.parametrize("identity", ["bob", None, "alice2"])
async def test_somebody_elses(api: Api, identity: str | None) -> None:
    entry = await api.completed()
    for method, path in [("GET", ""), ("GET", "/answer"), ("DELETE", "")]:
        answer = await api.ask(f"/-/requests/{entry.id}{path}", method, identity)
        assert answer.error is not None
        assert (answer.error.status, answer.error.code) == (404, "request_not_found")
    assert orjson.loads((await api.ask("/-/requests", identity=identity)).body) == {"requests": [], "next": None}


async def test_a_journal_that_does_not_answer(api: Api) -> None:
    async def away(id: str) -> Entry | None:
        raise StoreUnavailable("away")

    api.journal.get = away  # type: ignore[method-assign]
    answer = await api.ask("/-/requests/ab")
    assert answer.error is not None
    assert (answer.error.status, answer.error.code) == (503, "journal_unavailable")
