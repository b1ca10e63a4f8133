"""What it costs to find out who calls, apart from everything else: ``python -m bench.credentials``.

CPU time of `auth` alone, with an app behind it that does nothing, in this process. A token is *new* where its digest is
not remembered, so that its signature is checked, with a key that is at hand. No key set is fetched here.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from middleware.auth import Auth
from middleware.credentials.jwt_options import JwtOptions
from middleware.credentials.key_file import add_key
from middleware.credentials.keys import new_key
from proxy.asgi import Header, Receive, Scope, Send
from proxy.body import BodyBudget
from proxy.exchange import KEY, Exchange
from proxy.routes import RouteTable
from proxy.services import Clock, Policies

ROUNDS: Final = 7
CALLS: Final = 500
"""In a round. As many tokens are signed before each."""

_ISSUER: Final = "https://login.example.com"
_HEADERS: Final[Sequence[Header]] = (
    (b"host", b"ollama.example.com"),
    (b"user-agent", b"ollama-python/0.6.2 (x86_64 linux) Python/3.11"),
    (b"content-type", b"application/json"),
    (b"content-length", b"120"),
)
_ROUTES: Final = RouteTable()


def measure(*, rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, list[float]]:
    """Return the microseconds of each round by the kind of credential."""
    with TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder) / "keys.yaml", rounds, calls))


async def _measure(file: Path, rounds: int, calls: int) -> dict[str, list[float]]:
    key, entry = new_key("alice", now=time.time(), tenant="physics", policy="research")
    add_key(file, entry)
    signers: dict[str, Key] = {
        "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
        "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
        "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
    }
    published = {"keys": [signer.as_dict(private=False) for signer in signers.values()]}
    auth = Auth(
        _nothing,
        clock=Clock(),
        policies=Policies({"research"}),
        keys=file,
        jwt=JwtOptions(
            issuer=_ISSUER, audience="ollama", key=orjson.dumps(published).decode(), tenant="org", policy="roles"
        ),
    )
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        kinds = {"API key": [key] * calls}
        for algorithm, signer in signers.items():
            ids = (f"{number}.{call}" for call in range(calls))
            kinds[f"new token, {algorithm}"] = [_signed(signer, algorithm, one) for one in ids]
        kinds["remembered token"] = [kinds["new token, RS256"][0]] * calls
        for kind, credentials in kinds.items():
            found.setdefault(kind, []).append(await _cost(auth, credentials))
    return found


async def _cost(auth: Auth, credentials: Iterable[str]) -> float:
    """Return the microseconds of CPU that one request takes."""
    scopes = [_scope(credential) for credential in credentials]
    began = time.process_time_ns()
    for scope in scopes:
        await auth(scope, _no_body, _no_answer)
    return (time.process_time_ns() - began) / len(scopes) / 1000


def _signed(signer: Key, algorithm: str, token_id: str) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {"iss": _ISSUER, "aud": "ollama", "sub": "alice", "org": "physics", "jti": token_id}
    claims |= {"iat": now, "exp": now + 3600, "roles": ["staff", "research"]}
    registry = JWSRegistry(algorithms=[algorithm])
    return jwt.encode({"alg": algorithm, "typ": "at+jwt", "kid": signer.kid}, claims, signer, registry=registry)


def _scope(credential: str) -> Scope:
    headers = [*_HEADERS, (b"authorization", b"Bearer " + credential.encode())]
    scope: Scope = {"type": "http", "method": "POST", "path": "/api/chat", "query_string": b"", "headers": headers}
    scope[KEY] = Exchange(
        scope, _no_body, id="bench", routes=_ROUTES, client="127.0.0.1", started_at=0.0, bodies=BodyBudget()
    )
    return scope


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def _no_body() -> Any:
    raise AssertionError("auth reads no body")


async def _no_answer(message: Any) -> None:
    raise AssertionError("auth answers nothing")


if __name__ == "__main__":
    print("| credential | µs of CPU | range |\n|---|---|---|")
    for kind, costs in measure().items():
        print(f"| {kind} | {median(costs):.0f} | {min(costs):.0f} – {max(costs):.0f} |")
