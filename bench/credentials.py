"""What it costs to find out who calls and what he may do, apart from everything else.

CPU time of `auth` alone, with an app behind it that does nothing, in this process. A token is *new* where its digest is
not remembered, so that its signature is checked, with a key that is at hand. No key set is fetched here.

Then of `auth`, `access` and `rate_limit` together: the body is read and judged, a request and its tokens are counted in
memory, and settled in the end.
"""

import asyncio
import gc
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from bench.report import table
from middleware.access.plugin import Access
from middleware.auth.jwt_options import JwtOptions
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from middleware.auth.plugin import Auth
from middleware.rate_limit.plugin import RateLimit
from proxy.kernel.asgi import ASGIApp, Header, Message, Receive, Scope, Send
from proxy.kernel.attempts import Usage
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.defined_policies import Policies
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.exchange_parts import FramePart, RelayPart
from proxy.kernel.routes import RouteTable
from proxy.kernel.units import Rate
from proxy.services.system_clock import SystemClock
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.stores.memory import MemoryStore

ROUNDS: Final = 7
CALLS: Final = 500
"""In a round. As many tokens are signed before each."""

_ISSUER: Final = "https://login.example.com"
_BODY: Final = (
    b'{"model":"llama3.2","messages":[{"role":"user","content":"Why is the sky blue?"}],"options":{"seed":7}}'
)
_HEADERS: Final[Sequence[Header]] = (
    (b"host", b"ollama.example.com"),
    (b"user-agent", b"ollama-python/0.6.2 (x86_64 linux) Python/3.11"),
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(_BODY)),
)
_ROUTES: Final = RouteTable()


def measure(*, rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, list[float]]:
    """Return the microseconds of each round by the kind of credential."""
    with TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder) / "keys.yaml", rounds, calls))


def rows(found: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Return what `measure` found as a table, its head first."""
    head = ["apart from everything else", "CPU per request, µs", "least to most"]
    return [
        head,
        *([kind, f"{median(costs):.0f}", f"{min(costs):.0f} to {max(costs):.0f}"] for kind, costs in found.items()),
    ]


async def _measure(file: Path, rounds: int, calls: int) -> dict[str, list[float]]:
    key, entry = new_key("alice", now=time.time(), tenant="physics", policy="research")
    add_key(file, entry)
    signers: dict[str, Key] = {
        "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
        "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
        "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
    }
    published = {"keys": [signer.as_dict(private=False) for signer in signers.values()]}
    issuer = JwtOptions(
        issuer=_ISSUER, audience="ollama", key=orjson.dumps(published).decode(), tenant="org", policy="roles"
    )

    def known(inner: ASGIApp) -> Auth:
        return Auth(
            inner,
            clock=SystemClock(),
            policies=Policies({"research"}),
            keepsakes=WeakKeepsakes(),
            keys=file,
            jwt=issuer,
        )

    auth, chain = known(_nothing), known(Access(_limited(_answer), models=["llama3.2*"]))
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        kinds = {"API key": [key] * calls}
        for algorithm, signer in signers.items():
            ids = (f"{number}.{call}" for call in range(calls))
            kinds[f"new token, {algorithm}"] = [_signed(signer, algorithm, one) for one in ids]
        kinds["remembered token"] = [kinds["new token, RS256"][0]] * calls
        for kind, credentials in kinds.items():
            found.setdefault(kind, []).append(await _cost(auth, credentials))
        for kind in ("API key", "remembered token"):
            found.setdefault(f"{kind}, access, limits", []).append(await _cost(chain, kinds[kind]))
    return found


def _limited(inner: ASGIApp) -> RateLimit:
    requests, tokens = Rate.parse("1000000/minute"), Rate.parse("1000000000/day")
    return RateLimit(inner, store=MemoryStore(SystemClock()), requests=requests, tokens=tokens)


async def _cost(chain: ASGIApp, credentials: Iterable[str]) -> float:
    """Return the microseconds of CPU that one request takes."""
    scopes = [_scope(credential) for credential in credentials]
    gc.collect()  # what was made before is no cost of these
    began = time.process_time_ns()
    for scope in scopes:
        exchange = Exchange.of(scope)
        await chain(scope, exchange.receive, _no_answer)
        for finish in exchange.finishers():
            finish(exchange)
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
        scope,
        _body,
        id="bench",
        routes=_ROUTES,
        client="127.0.0.1",
        started_at=0.0,
        bodies=BodyBudget(each=2**20, total=2**20, share=1.0, patience=30.0, rate=1),
    )
    return scope


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as far as a limit looks."""
    exchange = Exchange.of(scope)
    exchange.part(FramePart).status = 200
    exchange.part(RelayPart).usage = Usage(26, 80)


async def _body() -> Message:
    return {"type": "http.request", "body": _BODY, "more_body": False}


async def _no_answer(message: Message) -> None:
    raise AssertionError("none of them answers anything")


if __name__ == "__main__":
    print(table(rows(measure())))
