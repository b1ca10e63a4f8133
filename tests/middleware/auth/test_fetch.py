import asyncio
import ssl
from pathlib import Path

import pytest

from middleware.auth.fetch import MAX_BYTES, Fetched, Fetcher, FetchError, check_url, tls_context
from tests.support.certificates import Authority
from tests.support.provider import http, provider


@pytest.mark.parametrize(
    ("url", "plain_http"),
    [
        ("https://login.example.com", False),
        ("https://login.example.com:8443/realms/a", False),
        ("http://localhost:8080", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://keycloak:8080/realms/a", True),
    ],
)
def test_urls_that_are_asked(url: str, plain_http: bool) -> None:
    check_url(url, plain_http=plain_http)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "ftp://login.example.com",
        "file:///etc/passwd",
        "login.example.com",
        "//login.example.com",
        "https://",
        "https://user:password@login.example.com",
        "https://[::1",
        "",
    ],
)
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        check_url(url, plain_http=False)


def fetcher(timeout: float = 5.0) -> Fetcher:
    return Fetcher(timeout=timeout, tls=tls_context(None))


async def test_an_answer() -> None:
    async with provider() as it:
        it.answers["/a"] = http(200, {"a": 1}, cache_control="max-age=60")
        assert await fetcher().json(it.url + "/a") == Fetched({"a": 1}, 60.0)


async def test_the_largest_answer_that_is_read() -> None:
    async with provider() as it:
        it.answers["/a"] = http(200, "x" * (MAX_BYTES - 2))
        assert len((await fetcher().json(it.url + "/a")).document) == MAX_BYTES - 2
        it.answers["/a"] = http(200, "x" * (MAX_BYTES - 1))
        with pytest.raises(FetchError, match="longer than"):
            await fetcher().json(it.url + "/a")


async def test_an_answer_that_drips_is_cut_off_by_the_total_time() -> None:
    dripping = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                dripping.set()
                await asyncio.sleep(0.02)  # always well within the time between two reads
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(FetchError, match=r"no answer within 0\.3 s"):
            await fetcher(timeout=0.3).json(url)
        assert dripping.is_set()


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("localhost", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(200, []))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        trusting = Fetcher(timeout=5.0, tls=tls_context(Path(authority.cert)))
        assert (await trusting.json(url)).document == []
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            await fetcher().json(url)
