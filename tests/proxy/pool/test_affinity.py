"""proxy/pool/affinity.py."""

from typing import Any

import orjson
import pytest

from proxy.pool.affinity import BEGINNING, Affinity, conversation_of
from proxy.testing import make_exchange, suppose

SYSTEM = {"role": "system", "content": "be brief"}
FIRST = {"role": "user", "content": "why is the sky blue?"}
REPLY = {"role": "assistant", "content": "Rayleigh"}
SECOND = {"role": "user", "content": "and at night?"}


async def key(body: dict[str, Any], identity: str | None = None, path: str = "/api/chat", **more: Any) -> int | None:
    exchange = make_exchange("POST", path, body=orjson.dumps({"model": "m", **body}), **more)
    suppose(exchange, identity=identity)
    await exchange.body()
    return conversation_of(exchange)


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


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [7]},
        {"prompt": ""},
        {"prompt": 5},
    ],
)
async def test_what_has_no_beginning_is_no_conversation(body: dict[str, Any]) -> None:
    assert await key(body) is None


async def test_prompts_are_told_apart_by_their_beginning() -> None:
    assert await key({"prompt": "hi"}) == await key({"prompt": "hi"})
    assert await key({"prompt": "hi"}) != await key({"prompt": "ho"})
    assert await key({"prompt": "hi", "system": "be brief"}) != await key({"prompt": "hi"})
    long = "x" * BEGINNING
    assert await key({"prompt": long}) == await key({"prompt": long + " and on"})


async def test_a_long_system_prompt_does_not_hide_who_asks_what() -> None:
    system = {"role": "system", "content": "x" * 100_000}
    assert await key({"messages": [system, FIRST]}) != await key({"messages": [system, SECOND]})


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("/v1/chat/completions", {"messages": [SYSTEM, FIRST]}, {"messages": [SYSTEM, SECOND]}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
            {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "b"}]}]},
        ),
        ("/v1/messages", {"system": "x", "messages": [FIRST]}, {"system": "y", "messages": [FIRST]}),
        ("/v1/messages", {"system": [{"text": "x"}], "messages": [FIRST]}, {"messages": [FIRST]}),
        ("/v1/responses", {"input": "a"}, {"input": "b"}),
        ("/v1/responses", {"instructions": "x", "input": [FIRST]}, {"instructions": "x", "input": [SECOND]}),
        ("/v1/completions", {"prompt": "a"}, {"prompt": "b"}),
    ],
)
async def test_every_api_has_conversations(path: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    first = await key(one, path=path)
    assert first is not None
    assert first == await key(one, path=path)
    assert first != await key(other, path=path)


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings", "/api/show"])
async def test_embeddings_and_questions_are_none(path: str) -> None:
    assert await key({"input": "hi"}, path=path, headers=[("x-session-id", "42")]) is None


def test_who_was_silent_longest_is_forgotten() -> None:
    talks = Affinity(2)
    talks.put(1, "one")
    talks.put(2, "two")
    talks.put(1, "three")
    talks.put(3, "four")
    assert (talks.get(1), talks.get(2), talks.get(3)) == ("three", None, "four")
    assert len(talks) == 2
