"""proxy/pool/backend_api.py."""

import pytest

from proxy.kernel.errors import BadAnswer
from proxy.pool.backend_api import fetch_json, inspect_backend, moment
from proxy.simulator import Ollama
from tests.support.options import make_backend


async def test_what_it_found() -> None:
    async with Ollama("llama3.2", "qwen3", version="0.33.1") as sim:
        backend = make_backend("a", sim.url)
        found = await inspect_backend(backend, timeout=2.0)
        assert found.version == "0.33.1"
        assert set(found.models) == {"llama3.2:latest", "qwen3:latest"}
        assert str(found).startswith("Ollama 0.33.1, 2 models (")
        await backend.transport.aclose()


async def test_nobody_there() -> None:
    async with Ollama() as sim:
        backend = make_backend("a", sim.url)
        await sim.stop()
        found = await inspect_backend(backend, timeout=2.0)
        assert found.error is not None
        assert str(found).startswith("not reachable now: ")
        await backend.transport.aclose()


async def test_no_answer_in_time() -> None:
    async with Ollama() as sim:
        sim.fault("stall", times=None)
        backend = make_backend("a", sim.url)
        found = await inspect_backend(backend, timeout=0.1)
        assert found.error == "no answer within 0.1 s"
        await backend.transport.aclose()
        sim.clear()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"text"'])
async def test_something_else_there(body: bytes) -> None:
    async with Ollama() as sim:
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        sim.script(b"HTTP/1.1 200 OK\r\n", length, body, times=None)
        backend = make_backend("a", sim.url)
        with pytest.raises(BadAnswer):
            await fetch_json(backend, b"/api/version", timeout=2.0)
        assert (await inspect_backend(backend, timeout=2.0)).error is not None
        await backend.transport.aclose()


async def test_an_error_status() -> None:
    async with Ollama() as sim:
        sim.fault("status", status=500, times=None)
        backend = make_backend("a", sim.url)
        assert (await inspect_backend(backend, timeout=2.0)).error == "/api/version answered 500"
        await backend.transport.aclose()


def test_times_of_other_offsets_are_compared_as_times() -> None:
    """As text the first would be the later one."""
    before = {"modified_at": "2026-10-25T02:30:00.123456789+02:00"}
    after = {"modified_at": "2026-10-25T02:10:00.5+01:00"}
    assert moment(before, "modified_at") < moment(after, "modified_at")
    assert moment({}, "modified_at") == moment({"modified_at": "soon"}, "modified_at") == 0.0
