"""A certified OpenID provider, run by node, and a person who logs in to it with a browser."""

import asyncio
import json
import re
import secrets
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from joserfc.jwk import RSAKey

from tests.support.process import start_process

FOLDER: Final = Path(__file__).parent.parent / "live" / "idp"
REDIRECT: Final = "http://127.0.0.1:1/callback"  # nobody listens: the person's browser stops there
NODE: Final = shutil.which("node")
INSTALLED: Final = NODE is not None and (FOLDER / "node_modules" / "oidc-provider").is_dir()

Kind = Literal["jwt", "opaque"]


def signing_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "alg": "RS256", "use": "sig"})


class IdentityProvider:
    """One provider; it may be stopped and started again, with other keys, on the same port and so the same issuer."""

    def __init__(self) -> None:
        self.issuer = ""
        self.secret = secrets.token_hex(16)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, keys: Sequence[RSAKey]) -> None:
        """Run with `keys`, of which the first one signs."""
        assert NODE is not None
        port = httpx.URL(self.issuer).port if self.issuer else 0
        self._process = await start_process(
            NODE,
            "provider.mjs",
            str(port),
            cwd=FOLDER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        settings: dict[str, Any] = {
            "jwks": {"keys": [key.as_dict(private=True) for key in keys]},
            "redirect_uri": REDIRECT,
            "secret": self.secret,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        async with asyncio.timeout(30):
            await self._process.stdin.drain()
            self.issuer = json.loads(await self._process.stdout.readline())["issuer"]

    async def stop(self) -> None:
        """End it; a request to it is then refused."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(30):
                await process.communicate(b"")  # closes its input, and waits until both of its pipes are closed
        finally:
            if process.returncode is None:
                process.kill()

    async def log_in(self, name: str, kind: Kind = "jwt") -> str:
        """Go through the authorization code flow with PKCE, as `name`, and return an access token."""
        verifier = secrets.token_urlsafe(32)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "client_id": "chat",
            "response_type": "code",
            "scope": "openid chat",
            "redirect_uri": REDIRECT,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "resource": f"urn:ollama:{kind}",
        }
        async with httpx.AsyncClient(base_url=self.issuer) as browser:
            code = await self._consent(browser, await browser.get("/auth", params=asked), name)
            granted = await browser.post(
                "/token",
                data={
                    "grant_type": "authorization_code",
                    "client_id": "chat",
                    "code": code,
                    "redirect_uri": REDIRECT,
                    "code_verifier": verifier,
                    "resource": f"urn:ollama:{kind}",
                },
            )
        return str(granted.raise_for_status().json()["access_token"])

    async def revoke(self, token: str) -> None:
        async with httpx.AsyncClient(base_url=self.issuer) as client:
            (await client.post("/token/revocation", data={"client_id": "chat", "token": token})).raise_for_status()

    async def _consent(self, browser: httpx.AsyncClient, page: httpx.Response, name: str) -> str:
        """Follow redirects and fill in forms until the browser is sent back with a code."""
        for _ in range(10):
            location = page.headers.get("location", "")
            if location.startswith(REDIRECT):
                return str(httpx.URL(location).params["code"])
            if location:
                page = await browser.get(location)
                continue
            action = re.search(r'action="([^"]+)"', page.raise_for_status().text)
            prompt = re.search(r'name="prompt" value="([^"]+)"', page.text)
            assert action is not None
            assert prompt is not None
            page = await browser.post(action[1], data={"prompt": prompt[1], "login": name, "password": "any"})
        raise AssertionError("the provider never sent the browser back")
