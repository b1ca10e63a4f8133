"""proxy/affinity.py."""

from typing import Any

import orjson
import pytest

from proxy.affinity import Memory, conversation
from tests.support.asgi import make_exchange

SYSTEM = {"role": "system", "content": "be brief"}
FIRST = {"role": "user", "content": "why is the sky blue?"}
REPLY = {"role": "assistant", "content": "Rayleigh"}
SECOND = {"role": "user", "content": "and at night?"}


async def key(body: dict[str, Any], identity: str | None = None, **more: Any) -> bytes | None:
    exchange = make_exchange(body=orjson.dumps({"model": "m", **body}), **more)
    exchange.identity = identity
    await exchange.body()
    return conversation(exchange)


async def test_a_conversation_keeps_its_name_as_it_grows() -> None:
    one = await key({"messages": [SYSTEM, FIRST]})
    assert one is not None
    assert one == await key({"messages": [SYSTEM, FIRST, REPLY, SECOND]})
    assert one != await key({"messages": [FIRST]})
    assert one != await key({"messages": [SYSTEM, SECOND]})


async def test_whose_it_is_and_which_model_it_asks_belongs_to_it() -> None:
    one = await key({"messages": [FIRST]})
    assert one != await key({"messages": [FIRST], "model": "n"})
    assert one != await key({"messages": [FIRST]}, identity="alice")
    assert one == await key({"messages": [FIRST], "model": "M:latest"})


async def test_a_session_header_goes_first() -> None:
    session = [("x-session-id", "42")]
    one = await key({"messages": [FIRST]}, headers=session)
    assert one == await key({"messages": [SECOND]}, headers=session)
    assert one != await key({"messages": [FIRST]})


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": "odd"}, {"prompt": ""}])
async def test_what_has_no_beginning_has_no_name(body: dict[str, Any]) -> None:
    assert await key(body) is None


async def test_prompts_have_one() -> None:
    assert await key({"prompt": "hi"}) == await key({"prompt": "hi"})
    assert await key({"prompt": "hi"}) != await key({"prompt": "ho"})


def test_memory_forgets_who_was_silent_longest() -> None:
    memory = Memory(2)
    memory.put(b"a", "one")
    memory.put(b"b", "two")
    memory.put(b"a", "three")
    memory.put(b"c", "four")
    assert (memory.get(b"a"), memory.get(b"b"), memory.get(b"c")) == ("three", None, "four")
    assert len(memory) == 2
