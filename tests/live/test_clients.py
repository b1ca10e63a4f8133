"""Official clients, unmodified, with keys, through the proxy."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import ollama
import openai
import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.proxy import Running, running

T = TypeVar("T")
QUESTION: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


@dataclass
class Setting:
    proxy: Running
    sim: Ollama
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Setting]:
    key, entry = new_key("alice", now=0.0, tenant="physics")
    add_key(tmp_path / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml"}}, {"rate_limit": {"requests": "1000/minute"}}, "retry"]
    async with Ollama() as sim, running(sim.url, middleware=chain, folder=tmp_path) as proxy:
        yield Setting(proxy, sim, key)


async def sync(function: Callable[[], T]) -> T:
    """Run a blocking client beside the proxy, which lives in this loop."""
    return await asyncio.to_thread(function)


async def test_ollama_python_sync(place: Setting) -> None:
    def use() -> None:
        with ollama.Client(place.proxy.url, headers=place.headers) as client:
            assert client.generate("llama3.2", "hi").response
            assert "".join(part.response for part in client.generate("llama3.2", "hi", stream=True))
            assert client.chat("llama3.2", QUESTION).message.content
            parts = list(client.chat("llama3.2", QUESTION, stream=True))
            assert parts[-1].done
            assert parts[-1].eval_count
            assert len(client.embed("nomic-embed-text", ["a", "b"]).embeddings) == 2
            names = [model.model for model in client.list().models]
            assert "llama3.2:latest" in names
            assert client.show("llama3.2").details is not None
            assert client.ps().models
            progress = [part.status for part in client.pull("phi4", stream=True)]
            assert progress[-1] == "success"
            assert client.pull("phi4-mini").status == "success"

    await sync(use)
    line = await place.proxy.log.request()
    assert (line["identity"], line["tenant"], line["model"]) == ("alice", "physics", "llama3.2:latest")


async def test_ollama_python_async(place: Setting) -> None:
    client = ollama.AsyncClient(place.proxy.url, headers=place.headers)
    assert (await client.generate("llama3.2", "hi")).response
    parts = [part async for part in await client.chat("llama3.2", QUESTION, stream=True)]
    assert parts[-1].done
    assert (await client.chat("llama3.2", QUESTION)).message.content
    assert (await client.embed("nomic-embed-text", "a")).embeddings
    assert (await client.list()).models
    assert (await client.show("llama3.2")).details
    assert (await client.ps()).models
    assert [part.status async for part in await client.pull("phi4", stream=True)][-1] == "success"
    await client._client.aclose()


async def test_ollama_python_takes_its_key_from_the_environment(
    place: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", place.key)
    client = ollama.AsyncClient(place.proxy.url)
    assert (await client.generate("llama3.2", "hi")).response
    await client._client.aclose()


async def test_ollama_python_reads_our_errors(place: Setting) -> None:
    client = ollama.AsyncClient(place.proxy.url, headers={"Authorization": "Bearer wrong"})
    with pytest.raises(ollama.ResponseError) as refused:
        await client.generate("llama3.2", "hi")
    assert refused.value.status_code == 401
    await client._client.aclose()
    client = ollama.AsyncClient(place.proxy.url, headers=place.headers)
    with pytest.raises(ollama.ResponseError) as missing:
        await client.generate("no-such-model", "hi")
    assert missing.value.status_code == 404
    assert "not found" in missing.value.error
    await client._client.aclose()


async def test_openai_sdk(place: Setting) -> None:
    async with openai.AsyncOpenAI(base_url=f"{place.proxy.url}/v1", api_key=place.key) as client:
        answer = await client.chat.completions.create(model="llama3.2", messages=QUESTION)
        assert answer.choices[0].message.content
        assert answer.usage is not None
        text = ""
        stream = await client.chat.completions.create(
            model="llama3.2", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        async for part in stream:
            text += (part.choices[0].delta.content or "") if part.choices else ""
            usage = part.usage
        assert text
        assert usage is not None
        assert (await client.completions.create(model="llama3.2", prompt="hi")).choices[0].text
        async for completion in await client.completions.create(model="llama3.2", prompt="hi", stream=True):
            assert completion.choices is not None
        assert (await client.embeddings.create(model="nomic-embed-text", input="hi")).data[0].embedding
        assert [model.id async for model in client.models.list()]
        assert (await client.models.retrieve("llama3.2")).id
        assert (await client.responses.create(model="llama3.2", input="hi")).output_text
    line = await place.proxy.log.request(2)
    assert line["tokens_out"] == usage.completion_tokens
    assert line["tokens_in"] == usage.prompt_tokens


async def test_openai_sdk_reads_our_errors(place: Setting) -> None:
    async with openai.AsyncOpenAI(base_url=f"{place.proxy.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_openai_sdk_sync(place: Setting) -> None:
    def use() -> str:
        with openai.OpenAI(base_url=f"{place.proxy.url}/v1", api_key=place.key) as client:
            stream = client.chat.completions.create(model="llama3.2", messages=QUESTION, stream=True)
            return "".join(part.choices[0].delta.content or "" for part in stream)

    assert await sync(use)


async def test_anthropic_sdk(place: Setting) -> None:
    async with anthropic.AsyncAnthropic(base_url=place.proxy.url, api_key=place.key) as client:
        answer = await client.messages.create(model="llama3.2", max_tokens=32, messages=QUESTION)
        assert answer.content[0].type == "text"
        async with client.messages.stream(model="llama3.2", max_tokens=32, messages=QUESTION) as stream:
            text = "".join([part async for part in stream.text_stream])
            final = await stream.get_final_message()
        assert text
        assert final.usage.output_tokens
    line = await place.proxy.log.request(2)
    assert line["tokens_out"] == final.usage.output_tokens


async def test_anthropic_sdk_reads_our_errors(place: Setting) -> None:
    async with anthropic.AsyncAnthropic(base_url=place.proxy.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model="llama3.2", max_tokens=1, messages=QUESTION)


async def test_anthropic_sdk_sync_with_a_bearer_token(place: Setting) -> None:
    def use() -> str:
        with anthropic.Anthropic(base_url=place.proxy.url, auth_token=place.key) as client:
            with client.messages.stream(model="llama3.2", max_tokens=16, messages=QUESTION) as stream:
                return "".join(stream.text_stream)

    assert await sync(use)


async def test_the_key_never_reaches_the_backend(place: Setting) -> None:
    for headers in ({"Authorization": f"Bearer {place.key}"}, {"x-api-key": place.key}):
        client = ollama.AsyncClient(place.proxy.url, headers=headers)
        await client.generate("llama3.2", "hi")
        await client._client.aclose()
        seen = place.sim.last
        assert place.key.encode() not in b"".join(value for _, value in seen.headers) + seen.target
