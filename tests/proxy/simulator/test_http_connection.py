import pytest

from proxy.simulator import Ollama, Settings
from tests.proxy.simulator.client import Wire, chat, encode

BOTH_LOOPS = True

GET = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_one_connection_serves_many_requests() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        for _ in range(3):
            assert (await wire.ask("GET", "/api/version")).json() == {"version": sim.settings.version}
        assert {request.connection for request in sim.requests} == {1}
        assert sim.last.remote_port == wire.writer.get_extra_info("sockname")[1]
        assert sim.counters.connections == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat(2)) + GET + encode("POST", "/api/show", {"model": "qwen3"}))
        assert len((await wire.read()).lines()) == 3
        assert "version" in (await wire.read()).json()
        assert "details" in (await wire.read()).json()
        assert [request.state for request in sim.requests] == ["done"] * 3


async def test_the_client_is_told_to_continue_when_its_body_is_wanted() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(
            b"POST /api/show HTTP/1.1\r\nHost: a.local\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await wire.head()).status == 100
        await wire.send(b'{"model":"qwen3"}')
        assert (await wire.read()).status == 200


async def test_a_bad_request_behind_a_good_one_waits_its_turn() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat(2)) + b"rubbish\r\n\r\n")
        assert len((await wire.read()).lines()) == 3
        assert (await wire.read()).status == 400
        assert len(sim.requests) == 1


async def test_a_body_that_breaks_its_framing_is_refused() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        assert (await wire.read()).status == 400
        assert sim.counters.tokens_generated == 0


async def test_http_1_0_gets_no_chunks_and_is_closed() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat(2)).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        answer = await wire.read()
        assert "transfer-encoding" not in answer.headers
        assert len(answer.lines()) == 3


async def test_connection_close_is_obeyed() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        answer = await wire.ask("GET", "/api/version", None, "Connection: close")
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_upgrades_are_ignored() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        answer = await wire.ask("GET", "/api/version", None, "Connection: Upgrade", "Upgrade: websocket")
        assert answer.status == 200


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("stage", ["body", "slot", "load", "prompt", "tokens", "whole"])
async def test_a_client_that_leaves_is_noticed_at_once(reset: bool, stage: str) -> None:
    slow = Settings(token_delay=0.001)
    slow.load_delay = 60.0 if stage == "load" else 0.0
    slow.prompt_delay = 60.0 if stage == "prompt" else 0.0
    async with Ollama(settings=slow) as sim, await Wire.open(sim) as wire, await Wire.open(sim) as other:
        request = encode("POST", "/api/chat", chat(100_000, stream=stage != "whole"))
        if stage == "slot":
            await other.send(request)
            await sim.wait_for(lambda: sim.counters.generating == 1)
        await wire.send(request[:-5] if stage == "body" else request)
        ready = {
            "body": lambda: sim.counters.active == 1,
            "slot": lambda: sim.counters.waiting == 1,
            "load": lambda: sim.counters.loading == 1,
            "prompt": lambda: sim.counters.generating == 1,
        }
        await sim.wait_for(ready.get(stage, lambda: sim.counters.tokens_generated > 3))
        wire.hang_up(reset=reset)
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert sim.last.state == "cancelled"
        await sim.wait_for(lambda: sim.counters.connections_open == 1)
        assert sim.counters.waiting == sim.counters.loading == 0
        assert sim.counters.generating == (stage == "slot")


async def test_a_client_that_half_closes_is_taken_for_gone() -> None:
    async with Ollama(token_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        wire.writer.write_eof()
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert await wire.rest() == b""


async def test_pipelined_requests_of_a_client_that_left_are_dropped() -> None:
    async with Ollama(token_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()) + GET)
        await sim.wait_for(lambda: sim.counters.generating == 1)
        wire.hang_up()
        await sim.wait_for(lambda: sim.counters.cancelled == 2)
        assert [request.status for request in sim.requests] == [None, None]


async def test_noticing_may_wait_for_the_next_token() -> None:
    async with Ollama(cancel="next_token", token_delay=0.001) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat(100_000)))
        await sim.wait_for(lambda: sim.counters.tokens_delivered > 3)
        wire.hang_up()
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert sim.counters.generating == 0


async def test_a_chunked_request_hides_its_client_s_leaving_until_something_is_written() -> None:
    async with Ollama(prompt_delay=0.05) as sim, await Wire.open(sim) as wire:
        head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.send(head + b'21\r\n{"model":"llama3.2","prompt":"x"}\r\n0\r\n\r\n')
        await sim.wait_for(lambda: sim.counters.generating == 1)
        wire.hang_up()
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert sim.counters.tokens_generated == 0


async def test_repr_names_the_client() -> None:
    async with Ollama(token_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        (connection,) = sim._service.connections
        assert repr(connection).startswith("<Connection 1 127.0.0.1:")
        assert "/api/chat" in repr(connection)
