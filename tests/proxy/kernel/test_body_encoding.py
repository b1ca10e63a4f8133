"""proxy/kernel/body_encoding.py."""

import asyncio
import random

import pytest
import zstandard

from proxy.kernel import body_encoding
from proxy.kernel.body_budget import BodyBudget, Holding
from proxy.kernel.body_encoding import LONGEST, RATIO, SPARE, decoded
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import Match
from proxy.testing import make_exchange
from tests.support.options import body_budget
from tests.support.turns import counted_turns

JSON = b'{"model":"llama3.2"}'
ZSTD = zstandard.compress(JSON)
FIVE = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"]


async def decode(body: bytes, *encodings: str, path: str = FIVE[0], budget: BodyBudget | None = None) -> bytes:
    exchange = make_exchange(path=path, headers=[("Content-Encoding", encoding) for encoding in encodings])
    assert isinstance(exchange.match, Match)
    return await decoded(body, exchange.scope, exchange.match.route, Holding(budget or body_budget()))


@pytest.mark.parametrize("encodings", [(), ("identity",), ("",)])
async def test_what_is_not_encoded_stays_the_same_object(encodings: tuple[str, ...]) -> None:
    assert await decode(JSON, *encodings) is JSON


@pytest.mark.parametrize("path", FIVE)
async def test_zstd_is_undone_where_ollama_undoes_it(path: str) -> None:
    assert await decode(ZSTD, "zstd", path=path) == JSON


@pytest.mark.parametrize(
    ("path", "encodings"),
    [
        ("/api/chat", ("zstd",)),
        ("/api/generate", ("gzip",)),
        ("/v1/audio/transcriptions", ("zstd",)),
        (FIVE[0], ("gzip",)),
        (FIVE[0], ("br",)),
        (FIVE[0], ("deflate",)),
        (FIVE[0], ("ZSTD",)),
        (FIVE[0], ("zstd, gzip",)),
        (FIVE[0], ("zstd", "zstd")),
        (FIVE[0], ("x",)),
    ],
)
async def test_every_other_encoding_is_refused(path: str, encodings: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as caught:
        await decode(ZSTD, *encodings, path=path)
    assert caught.value.status == 415


@pytest.mark.parametrize("body", [JSON, ZSTD + b"no frame", b"\x28\xb5\x2f\xfd\xff" + ZSTD])
async def test_broken_zstd(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        await decode(body, "zstd")
    assert caught.value.status == 400


@pytest.mark.parametrize("length", range(len(ZSTD)))
async def test_a_cut_frame_gives_no_more_than_its_beginning(length: int) -> None:
    assert JSON.startswith(await decode(ZSTD[:length], "zstd"))


async def test_frames_follow_one_another() -> None:
    assert await decode(zstandard.compress(JSON[:5]) + zstandard.compress(JSON[5:]), "zstd") == JSON


async def test_a_bomb_is_stopped_at_the_bound() -> None:
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    bomb = b"".join([*(compressor.compress(bytes(2**20)) for _ in range(512)), compressor.flush()])
    assert len(bomb) < 100_000
    budget = body_budget(each=4 * 2**20, total=2**30)
    exchange = make_exchange(path=FIVE[0], headers=[("content-encoding", "zstd")])
    assert isinstance(exchange.match, Match)
    with pytest.raises(Refused) as caught:
        await decoded(bomb, exchange.scope, exchange.match.route, Holding(budget))
    assert caught.value.status == 413
    assert budget.held <= budget.each


async def test_a_window_beyond_ollamas_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wide = compressor.compress(random.Random(1).randbytes(2**20)) + compressor.flush()
    with pytest.raises(Refused) as caught:
        await decode(wide, "zstd")
    assert caught.value.status == 400


async def test_decompressed_bytes_are_held_and_given_back() -> None:
    budget = body_budget()
    exchange: Exchange = make_exchange(path=FIVE[0], body=ZSTD, headers=[("content-encoding", "zstd")], bodies=budget)
    assert await exchange.json() == {"model": "llama3.2"}
    assert budget.held == len(ZSTD) + len(JSON)
    exchange.finishers()
    assert budget.held == 0


async def test_looking_back_at_a_bomb_holds_nothing() -> None:
    budget = body_budget(each=1000)
    bomb = zstandard.compress(b" " * 10_000)
    exchange = make_exchange(path=FIVE[0], body=bomb, headers=[("content-encoding", "zstd")], bodies=budget)
    with pytest.raises(Refused):
        await exchange.json()
    exchange.finishers()
    assert exchange.model is None  # what a log line asks
    assert budget.held == 0


def zstd_of(size: int, *, level: int = 19) -> bytes:
    """Return a body of `size` bytes, packed as small as it gets."""
    return zstandard.ZstdCompressor(level=level).compress(b"x" * size)


async def test_a_body_is_unpacked_as_far_as_ollama_does() -> None:
    words = random.Random(1).choices([b"the ", b"sky ", b"is ", b"blue ", b"why "], k=LONGEST // 4)
    text = b"".join(words)[:LONGEST]
    assert await decode(zstandard.compress(text), "zstd") == text
    with pytest.raises(Refused, match="no more than 20 MiB") as caught:
        await decode(zstandard.compress(text) + zstandard.compress(b"!"), "zstd")
    assert caught.value.status == 413


@pytest.mark.parametrize("size", [1000, SPARE, SPARE + 100])
async def test_what_was_sent_small_is_unpacked_to_a_mebibyte(size: int) -> None:
    assert await decode(zstd_of(size), "zstd") == b"x" * size


@pytest.mark.parametrize("size", [2 * SPARE, LONGEST, 2 * LONGEST])
async def test_what_was_sent_small_is_unpacked_to_no_more(size: int) -> None:
    budget = body_budget()
    exchange = make_exchange(path=FIVE[0], headers=[("content-encoding", "zstd")])
    assert isinstance(exchange.match, Match)
    with pytest.raises(Refused, match=f"more than {RATIO} to 1") as caught:
        await decoded(zstd_of(size), exchange.scope, exchange.match.route, Holding(budget))
    assert caught.value.status == 413
    assert budget.held == 0


async def test_a_conversation_compresses_less_than_a_bomb() -> None:
    turns = b",".join(b'{"role":"user","content":"turn %d"}' % number for number in range(5000))
    assert await decode(zstandard.compress(turns, 3), "zstd") == turns
    assert await decode(zstandard.compress(b'{"role":"user","content":"hello"},' * 30_000), "zstd")


async def test_a_long_body_is_unpacked_off_the_loop() -> None:
    body = random.Random(1).randbytes(4 * 2**20)
    async with counted_turns() as turns:
        assert await decode(zstandard.compress(body), "zstd") == body
    assert turns.made > 0  # on the loop there would be none


async def test_whoever_leaves_takes_nothing_from_the_thread() -> None:
    packed = zstandard.compress(random.Random(1).randbytes(8 * 2**20))
    for _ in range(20):
        reading = asyncio.create_task(decode(packed, "zstd"))
        await asyncio.sleep(0)  # it has begun, and its end cannot have come before our turn
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert len(await decode(packed, "zstd")) == 8 * 2**20


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_is_unpacked_once_where_its_head_says_that_much_comes_of_it(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = b"words " * 40_000
    body = zstandard.ZstdCompressor(write_content_size=told).compress(plain)
    unpack, times = body_encoding._unpacked, 0

    def counted(body: bytes, most: int) -> bytes | None:
        nonlocal times
        times += 1
        return unpack(body, most)

    monkeypatch.setattr(body_encoding, "_unpacked", counted)
    assert await decode(body, "zstd") == plain
    assert times == (1 if told else 2)
