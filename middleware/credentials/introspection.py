"""Opaque tokens, which only their provider can read: OAuth 2.0 Token Introspection (RFC 7662)."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson
import structlog

from middleware.credentials.cache import TokenCache, token_digest
from middleware.credentials.caller import Caller, unauthorized, unavailable
from middleware.credentials.claims import ClaimMap, ClaimOptions
from middleware.credentials.fetch import FetchError, check_url, tls_context
from middleware.credentials.flight import SingleFlight
from proxy.services import Clock
from proxy.units import ConfigFile, Duration, DurationOrZero, Secret

REMEMBERED: Final = 4096
"""Active tokens, and as many inactive ones."""

AT_ONCE: Final = 16
"""Questions on their way to the provider; others wait, within the same timeout."""

_log = structlog.get_logger("ollama_proxy.auth")


class IntrospectionOptions(ClaimOptions):
    """The provider of opaque tokens."""

    url: str
    """The introspection endpoint."""
    client_id: str
    """The proxy's own client id at the provider."""
    client_secret: Secret
    """And its secret."""
    client_auth: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    """How the proxy shows them."""
    issuer: str | None = None
    """The exact `iss` that an answer must have."""
    audience: str | list[str] | None = None
    """`aud` must name this, or one of these."""
    leeway: DurationOrZero = 30.0
    """How far clocks may differ; `0s`: not at all."""
    timeout: Duration = 5.0
    """How long the provider may take to answer."""
    cache: DurationOrZero = 60.0
    """How long an active token is taken as active, at most until its `exp`; `0s` asks every time."""
    cache_inactive: Duration = 10.0
    """How long an inactive one is taken as inactive."""
    ca: ConfigFile | None = None
    """CA certificates for the provider, where the usual ones do not do."""
    plain_http: bool = False
    """Allow http to the provider, on a network where nobody can interfere."""


class Introspection:
    """Asks the provider of opaque tokens who holds them, and remembers the answer for a while."""

    def __init__(self, options: IntrospectionOptions, *, policies: frozenset[str], clock: Clock) -> None:
        from middleware.credentials.introspection_client import IntrospectionClient  # slow: see its first lines

        check_url(options.url, plain_http=options.plain_http)
        self._options = options
        self._audience = {options.audience} if isinstance(options.audience, str) else set(options.audience or ())
        self._map = ClaimMap(options, policies)
        self._clock = clock
        self._client = IntrospectionClient(
            client_id=options.client_id,
            client_secret=options.client_secret.get_secret_value(),
            client_auth=options.client_auth,
            tls=tls_context(options.ca),
        )
        self._active: TokenCache[Caller] = TokenCache(REMEMBERED)
        self._inactive: TokenCache[str] = TokenCache(REMEMBERED)  # apart: invented tokens push no real one out
        self._questions: SingleFlight[bytes, Mapping[str, Any]] = SingleFlight()
        self._places = asyncio.Semaphore(AT_ONCE)

    async def caller(self, token: str) -> Caller:
        """Return whose token this is; raises Refused (401, 403, 503)."""
        digest = token_digest(token)
        now = self._clock.time()
        known = self._active.get(digest, now)
        if known is not None:
            return known
        reason = self._inactive.get(digest, now)
        if reason is None:
            claims = await self._questions.start(digest, lambda: self._ask(token))
            reason = self._refusal(claims)
            if reason is None:
                return self._remember(digest, claims)
            self._inactive.put(digest, reason, now + self._options.cache_inactive)
        raise unauthorized(reason)

    def mapped(self, claims: Mapping[str, Any]) -> Caller:
        """Return whom the claims of an answer speak of; for ``explain``, which does not ask."""
        return self._map.caller(claims)

    def _remember(self, digest: bytes, claims: Mapping[str, Any]) -> Caller:
        caller = self.mapped(claims)
        until = self._clock.time() + self._options.cache
        if "exp" in claims:
            until = min(until, claims["exp"] + self._options.leeway)
        self._active.put(digest, caller, until)
        return caller

    def _refusal(self, claims: Mapping[str, Any]) -> str | None:
        """Return why the holder of a token with this answer is not let in; None where he is."""
        if claims.get("active") is not True:
            return "the token is not active"
        now, leeway = self._clock.time(), self._options.leeway
        for name in ("exp", "nbf"):
            if name in claims and not _is_moment(claims[name]):
                return f"the token has an impossible {name}"
        if claims.get("exp", math.inf) + leeway <= now or claims.get("nbf", 0) - leeway > now:
            return "the token has expired or is not yet valid"
        if self._options.issuer is not None and claims.get("iss") != self._options.issuer:
            return "the token is of an issuer that is not accepted here"
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if self._audience and not any(name in self._audience for name in named if isinstance(name, str)):
            return "the token is not meant for this service"
        if "cnf" in claims:
            return "the token is bound to a key of its holder; send a bearer token"
        return None

    async def _ask(self, token: str) -> Mapping[str, Any]:
        """Return the provider's answer; raises Refused (503) where there is no usable one."""
        url = self._options.url
        try:
            async with asyncio.timeout(self._options.timeout), self._places:
                answer = orjson.loads(await self._client.ask(url, token))
            if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
                raise FetchError("its answer does not say whether the token is active")
        except (FetchError, TimeoutError, ValueError) as error:
            _log.error("introspection_unavailable", url=url, problem=str(error) or "no answer in time")
            message = "the identity provider does not answer whether this token is valid; try again"
            raise unavailable(message, retry_after=1.0) from error
        return answer


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
