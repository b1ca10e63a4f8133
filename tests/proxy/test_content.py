"""proxy/content.py."""

import random

import pytest
import zstandard

from proxy.body import BodyBudget
from proxy.content import decoded
from proxy.errors import Refused
from proxy.exchange import Exchange
from proxy.routes import Match
from tests.support.asgi import make_exchange

JSON = b'{"model":"llama3.2"}'
ZSTD = zstandard.compress(JSON)
FIVE = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"]


def decode(body: bytes, *encodings: str, path: str = FIVE[0], budget: BodyBudget | None = None) -> bytes:
    exchange = make_exchange(path=path, headers=[("Content-Encoding", encoding) for encoding in encodings])
    assert isinstance(exchange.match, Match)
    return decoded(body, exchange.scope, exchange.match.route, (budget or BodyBudget()).hold)


@pytest.mark.parametrize("encodings", [(), ("identity",), ("",)])
def test_what_is_not_encoded_stays_the_same_object(encodings: tuple[str, ...]) -> None:
    assert decode(JSON, *encodings) is JSON


@pytest.mark.parametrize("path", FIVE)
def test_zstd_is_undone_where_ollama_undoes_it(path: str) -> None:
    assert decode(ZSTD, "zstd", path=path) == JSON


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
def test_every_other_encoding_is_refused(path: str, encodings: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as caught:
        decode(ZSTD, *encodings, path=path)
    assert caught.value.status == 415


@pytest.mark.parametrize("body", [JSON, ZSTD + b"no frame", b"\x28\xb5\x2f\xfd\xff" + ZSTD])
def test_broken_zstd(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        decode(body, "zstd")
    assert caught.value.status == 400


@pytest.mark.parametrize("length", range(len(ZSTD)))
def test_a_cut_frame_gives_no_more_than_its_beginning(length: int) -> None:
    assert JSON.startswith(decode(ZSTD[:length], "zstd"))


def test_frames_follow_one_another() -> None:
    assert decode(zstandard.compress(JSON[:5]) + zstandard.compress(JSON[5:]), "zstd") == JSON


def test_a_bomb_is_stopped_at_the_bound() -> None:
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    bomb = b"".join([*(compressor.compress(bytes(2**20)) for _ in range(512)), compressor.flush()])
    assert len(bomb) < 100_000
    budget = BodyBudget(each=4 * 2**20, total=2**30)
    held: list[int] = []

    def hold(more: int) -> None:
        budget.hold(more, already=sum(held))
        held.append(more)

    exchange = make_exchange(path=FIVE[0], headers=[("content-encoding", "zstd")])
    assert isinstance(exchange.match, Match)
    with pytest.raises(Refused) as caught:
        decoded(bomb, exchange.scope, exchange.match.route, hold)
    assert caught.value.status == 413
    assert budget.held <= budget.each


def test_a_window_beyond_ollamas_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wide = compressor.compress(random.Random(1).randbytes(2**20)) + compressor.flush()
    with pytest.raises(Refused) as caught:
        decode(wide, "zstd")
    assert caught.value.status == 400


async def test_decompressed_bytes_are_held_and_given_back() -> None:
    budget = BodyBudget()
    exchange: Exchange = make_exchange(path=FIVE[0], body=ZSTD, headers=[("content-encoding", "zstd")], bodies=budget)
    assert await exchange.json() == {"model": "llama3.2"}
    assert budget.held == len(ZSTD) + len(JSON)
    exchange.finishers()
    assert budget.held == 0


async def test_looking_back_at_a_bomb_holds_nothing() -> None:
    budget = BodyBudget(each=1000)
    bomb = zstandard.compress(b" " * 10_000)
    exchange = make_exchange(path=FIVE[0], body=bomb, headers=[("content-encoding", "zstd")], bodies=budget)
    with pytest.raises(Refused):
        await exchange.json()
    exchange.finishers()
    assert exchange.model is None  # what a log line asks
    assert budget.held == 0
