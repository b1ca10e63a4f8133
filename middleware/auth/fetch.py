"""Fetch JSON from an identity provider: bounded in time and size, without redirects, verified by TLS."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from proxy.kernel.client_address import read_address

MAX_BYTES: Final = 512 * 1024
"""Maximum size of an answer in bytes; a large key set has some 20 KiB."""


class FetchError(Exception):
    """The provider gave no usable answer; the text says why and holds nothing secret."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer with status 200.

    Attributes:
        document: its JSON.
        max_age: seconds that its Cache-Control allows to keep it; None if that says nothing.
    """

    document: Any
    max_age: float | None


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """Return the TLS context for a provider: its own CA, or those that httpx trusts. Reads files; raises OSError."""
    return ssl.create_default_context(cafile=str(ca)) if ca is not None else httpx.create_ssl_context()


def check_url(url: str, *, plain_http: bool) -> None:
    """Raise ValueError unless `url` is https, or http to this machine, or http is allowed by `plain_http`."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http") or parts.username is not None:
        raise ValueError("expected an https URL")
    if parts.scheme == "http" and not plain_http and not _is_loopback(host):
        raise ValueError("http would let anybody on the way forge keys: use https, or set plain_http: true")


def _is_loopback(host: str) -> bool:
    ip = read_address(host)
    return host == "localhost" if ip is None else ip.is_loopback


class Fetcher:
    """Sends requests to one provider.

    Each request has a client of its own. Requests are minutes apart, so there is no connection to keep alive, and
    nothing to close when the configuration is reloaded.
    """

    def __init__(self, *, timeout: float, tls: ssl.SSLContext, plain_http: bool = False) -> None:
        self._timeout = timeout
        self._tls = tls
        self._plain_http = plain_http

    async def json(self, url: str) -> Fetched:
        """GET `url`; raises FetchError."""
        try:
            check_url(url, plain_http=self._plain_http)
            async with asyncio.timeout(self._timeout), self._client() as client:
                return await self._get(client, url)
        except TimeoutError:
            raise FetchError(f"no answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, ValueError) as error:
            raise FetchError(str(error) or type(error).__name__) from error

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self._tls, follow_redirects=False, timeout=self._timeout)

    async def _get(self, client: httpx.AsyncClient, url: str) -> Fetched:
        headers = {"accept": "application/json, application/jwk-set+json", "accept-encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                raise FetchError(f"it answered {response.status_code}")
            body = bytearray()
            async for part in response.aiter_raw():  # raw: we ask for no compressed answer and unpack none
                body += part
                if len(body) > MAX_BYTES:
                    raise FetchError(f"its answer is longer than {MAX_BYTES} bytes")
            return Fetched(orjson.loads(body), _max_age(response.headers.get("cache-control", "")))


def _max_age(cache_control: str) -> float | None:
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name in ("no-store", "no-cache"):
            return 0.0
        if name == "max-age" and value.strip('"').isdecimal():
            return float(value.strip('"')[:9])
    return None
