"""Send the introspection request of RFC 7662 with Authlib.

This is a separate file because Authlib's clients take a third of a second to import. Only proxies that introspect
should pay for that.
"""

import ssl
from typing import Any

from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]  # it has no types

from middleware.auth.fetch import MAX_BYTES, FetchError

try:
    import httpx2 as http  # the HTTP library that Authlib uses if it is installed
except ImportError:
    import httpx as http  # type: ignore[no-redef]  # and otherwise


class _BoundedClient(AsyncOAuth2Client):  # type: ignore[misc]  # see its import
    """Authlib's client, with a bound on the size of answers."""

    async def post(self, url: str, **options: Any) -> bytes:
        """Return the body of an answer with status 200; `introspect_token` sends its request with this method."""
        body = bytearray()
        async with self.stream("POST", url, **options) as response:
            if response.status_code != 200:
                raise FetchError(f"it answered {response.status_code}")
            async for part in response.aiter_raw():  # raw: we ask for no compressed answer and unpack none
                body += part
                if len(body) > MAX_BYTES:
                    raise FetchError(f"its answer is longer than {MAX_BYTES} bytes")
        return bytes(body)


class IntrospectionClient:
    """Sends requests to one provider.

    Each request has a client of its own, as in ``fetch.py``: the cache in front keeps that cheap, and nothing has to be
    closed.
    """

    def __init__(self, *, client_id: str, client_secret: str, client_auth: str, tls: ssl.SSLContext) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._client_auth = client_auth
        self._tls = tls

    async def ask(self, url: str, token: str) -> bytes:
        """Return the body of the provider's answer about `token`; raises FetchError. The caller bounds the time."""
        client = _BoundedClient(
            client_id=self._client_id,
            client_secret=self._client_secret,
            token_endpoint_auth_method=self._client_auth,
            verify=self._tls,
            timeout=None,
            follow_redirects=False,
        )
        headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/x-www-form-urlencoded",
        }
        try:
            async with client:
                answer: bytes = await client.introspect_token(url, token, headers=headers)
        except (http.HTTPError, http.InvalidURL, ssl.SSLError, ValueError) as error:
            raise FetchError(str(error) or type(error).__name__) from error
        return answer
