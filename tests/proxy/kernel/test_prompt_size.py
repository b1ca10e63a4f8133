"""proxy/kernel/prompt_size.py, and that of a long body it is found out off the event loop."""

import threading
from base64 import b64encode
from typing import Any

import orjson
import pytest

from proxy.kernel.body_contents import LARGE
from proxy.kernel.prompt_size import SMALL, PromptSize
from proxy.testing import make_exchange

PICTURE = b64encode(bytes(30_000)).decode()


async def size_of(body: dict[str, Any], path: str = "/api/chat") -> PromptSize:
    exchange = make_exchange(path=path, body=orjson.dumps(body))
    await exchange.json()
    return exchange.prompt_size


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"images": [PICTURE, PICTURE]}),
        ("/api/chat", {"messages": [{"role": "user", "images": [PICTURE]}] * 2}),
        ("/v1/chat/completions", {"messages": [{"content": [{"image_url": {"url": PICTURE}}] * 2}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"image_url": PICTURE}] * 2}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"source": {"data": PICTURE}}] * 2}]}),
    ],
)
async def test_pictures_count_by_their_number(path: str, body: dict[str, Any]) -> None:
    words = await size_of({**body, "prompt": "w " * SMALL}, path)
    assert words.pictures == 2
    assert 0 <= words.text - 2 * SMALL < 150


async def test_no_document_has_no_size() -> None:
    exchange = make_exchange(body=b"nope")
    await exchange.body()
    assert exchange.prompt_size == PromptSize()


@pytest.mark.parametrize("padding", ["", "w " * LARGE], ids=["short", "long"])
async def test_an_edit_changes_little(padding: str) -> None:
    exchange = make_exchange(body=orjson.dumps({"model": "a", "prompt": padding}))
    await exchange.json()
    size = exchange.prompt_size
    assert size.text == len(await exchange.body())
    exchange.edit({"model": "llama3.2"})
    assert exchange.prompt_size == size
    await exchange.body()
    assert exchange.prompt_size == size


async def test_of_a_long_body_it_is_found_out_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    of = PromptSize.of

    def noted(document: dict[str, Any], length: int) -> PromptSize:
        threads.append(threading.get_ident())
        return of(document, length)

    monkeypatch.setattr(PromptSize, "of", noted)
    await size_of({"model": "a", "prompt": "w " * LARGE})
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
