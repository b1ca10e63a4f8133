"""The plugin alone; with sockets it is tried in tests/live/test_resuming.py."""

from typing import Any

import pytest

from middleware.resumable.plugin import Resumable
from proxy.journal.memory import MemoryJournal
from proxy.kernel.asgi import Receive, Scope, Send, respond
from proxy.kernel.inner_request import inner_scope, is_inner
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.testing import ManualClock, call, make_exchange, ok


def plugin(app: Any = ok, **options: Any) -> Resumable:
    clock = ManualClock()
    return Resumable(app, journal=MemoryJournal(clock), clock=clock, keepsakes=WeakKeepsakes(), **options)


@pytest.mark.parametrize("path", ["/api/tags", "/api/embed", "/api/pull", "/nowhere"])
async def test_what_runs_no_streaming_model_passes_by(path: str) -> None:
    exchange = make_exchange("POST", path)
    assert (await call(plugin(), exchange)).status == 200
    explained = await plugin().explain(make_exchange("POST", path))
    assert explained.verdict == "skip"


async def test_it_explains_what_it_would_do() -> None:
    said = await plugin().explain(make_exchange(body=b'{"model": "m"}'))
    assert (said.verdict, "30s" in said.text) == ("pass", True)
    assert (await plugin().explain(make_exchange(body=b'{"model": "m", "stream": false}'))).verdict == "skip"


async def test_without_a_frame_that_records_the_answer_goes_out_as_it_is() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, [], b"answer")

    answer = await call(plugin(app), make_exchange(body=b'{"model": "m"}'))
    assert answer.body == b"answer"


def test_a_request_without_a_connection_of_its_own_is_known() -> None:
    assert is_inner(inner_scope("POST", "/api/chat"))
    assert not is_inner(make_exchange().scope)
