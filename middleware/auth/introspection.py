"""Verify opaque tokens by asking their provider: OAuth 2.0 Token Introspection (RFC 7662)."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson
import structlog

from middleware.auth.address_standing import Standing
from middleware.auth.cache import TokenCache, token_digest
from middleware.auth.caller import Caller, NotLetIn, again, too_many, unauthorized, unavailable
from middleware.auth.claim_mapping import ClaimMap, ClaimOptions
from middleware.auth.fetch import FetchError, check_url, tls_context
from middleware.auth.lifetimes import Lifetimes
from middleware.auth.provider_queue import Places, Rank
from middleware.auth.single_flight import SingleFlight
from proxy.kernel.client_address import UNIX, block
from proxy.kernel.clock import Clock
from proxy.kernel.units import ConfigFile, Duration, DurationOrZero, Secret

REMEMBERED: Final = 4096
"""Maximum number of active tokens in the cache; inactive ones have a cache of the same size."""

_log = structlog.get_logger("ollama_proxy.auth")


class IntrospectionOptions(ClaimOptions):
    """The provider of opaque tokens."""

    url: str
    """The introspection endpoint."""
    client_id: str
    """The proxy's own client id at the provider."""
    client_secret: Secret
    """The secret of `client_id`."""
    client_auth: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    """How the proxy sends its client id and secret."""
    issuer: str | None = None
    """The exact `iss` that an answer must have."""
    audience: str | list[str] | None = None
    """`aud` must name this, or one of these."""
    leeway: DurationOrZero = 30.0
    """How far clocks may differ; `0s`: not at all."""
    timeout: Duration = 5.0
    """How long the provider may take to answer."""
    cache: DurationOrZero = 60.0
    """How long an active token counts as active, at most until its `exp`; `0s` asks every time."""
    cache_inactive: Duration = 10.0
    """How long an inactive token counts as inactive."""
    ca: ConfigFile | None = None
    """CA certificates for the provider, if the usual ones do not verify it."""
    plain_http: bool = False
    """Allow http to the provider, on a network where nobody can intercept it."""


class Introspection:
    """Asks the provider of opaque tokens for their holders, and caches the answers.

    However many requests send a token at a time, one question is asked about it. The number of open questions is
    bounded, and callers wait for a place by address. Invented tokens therefore cannot keep other callers' tokens from
    being asked about, or out of the cache: see `Places`. An address that sent too many invented tokens may ask about no
    new token for a while; its known good tokens may still be asked about.
    """

    def __init__(
        self,
        options: IntrospectionOptions,
        *,
        policies: frozenset[str],
        clock: Clock,
        standing: Standing | None = None,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        from middleware.auth.introspection_client import IntrospectionClient  # slow to import: see its docstring

        check_url(options.url, plain_http=options.plain_http)
        self._options = options
        self._audience = {options.audience} if isinstance(options.audience, str) else set(options.audience or ())
        self._map = ClaimMap(options, policies, "introspection")
        self._clock = clock
        self._standing = standing or Standing(None, clock)
        self._lifetimes = lifetimes or Lifetimes(clock)
        self._client = IntrospectionClient(
            client_id=options.client_id,
            client_secret=options.client_secret.get_secret_value(),
            client_auth=options.client_auth,
            tls=tls_context(options.ca),
        )
        self._active: TokenCache[Caller] = TokenCache(REMEMBERED, clock)
        self._inactive: TokenCache[NotLetIn] = TokenCache(REMEMBERED, clock)  # apart: may push no active one out
        self._questions: SingleFlight[tuple[bytes, str], Caller | NotLetIn] = SingleFlight()
        self._places = Places()

    async def caller(self, token: str, address: str = UNIX) -> Caller:
        """Return the holder of `token`; raises Refused (401, 403, 429, 503).

        Args:
            token: the token.
            address: the client address that sent it.
        """
        digest = token_digest(token)
        found = self._active.get(digest) or self._inactive.get(digest)
        if found is None:
            # One question per address: no address waits in another's line, or is refused with it.
            place = digest, block(address)
            found = await self._questions.start(place, lambda: self._find_out(token, digest, address))
        if isinstance(found, NotLetIn):
            raise again(found)
        return found

    def mapped(self, claims: Mapping[str, Any]) -> Caller:
        """Return the caller for the claims of an answer; for ``explain``, which asks no provider."""
        return self._map.caller(claims)

    async def _find_out(self, token: str, digest: bytes, address: str) -> Caller | NotLetIn:
        """Ask about a token and cache the answer. Raises Refused if the provider gives none."""
        before = digest in self._active
        rank = Rank.KNOWN if before else self._standing.rank(address)
        asked = False
        self._check_budget(address, rank)
        try:
            async with asyncio.timeout(self._options.timeout), self._places.place(block(address), rank):
                self._check_budget(address, rank)  # others may have used it up meanwhile
                asked = True
                claims = await self._ask(token)
                return self._remember(digest, claims, address, before=before)
        except (FetchError, TimeoutError, ValueError) as error:
            if asked:  # a request that only waited in line proves nothing about the provider
                problem = str(error) or f"no answer within {self._options.timeout:g} s"
                _log.error("introspection_unavailable", url=self._options.url, problem=problem)
            message = "the identity provider does not answer whether this token is valid; try again"
            raise unavailable(message, retry_after=1.0) from error

    def _remember(self, digest: bytes, claims: Mapping[str, Any], address: str, *, before: bool) -> Caller | NotLetIn:
        try:
            self._check(digest, claims)
            caller = self.mapped(claims)
        except NotLetIn as refused:
            no = again(refused)
            self._active.forget(digest)
            self._inactive.put(digest, no, self._options.cache_inactive)
            if not before:
                self._standing.asked_in_vain(address)
                self._places.rank(block(address), self._standing.rank(address))
            return no
        expires = self._end(claims)
        seconds = min(self._options.cache, self._lifetimes.left(digest, expires))
        self._active.put(digest, caller, seconds, expires=expires)
        self._standing.good(address)
        return caller

    def _check(self, digest: bytes, claims: Mapping[str, Any]) -> None:
        """Raise Refused (401) if the provider's answer does not permit the holder of the token."""
        if claims.get("active") is not True:
            raise unauthorized("the token is not active")
        now, leeway = self._clock.time(), self._options.leeway
        for name in ("exp", "nbf"):
            if name in claims and not _is_moment(claims[name]):
                raise unauthorized(f"the token has an impossible {name}", reason="malformed")
        if self._lifetimes.left(digest, self._end(claims)) <= 0 or claims.get("nbf", 0) - leeway > now:
            raise unauthorized("the token has expired or is not yet valid", reason="expired")
        if self._options.issuer is not None and claims.get("iss") != self._options.issuer:
            raise unauthorized("the token is of an issuer that is not accepted here", reason="not_accepted")
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if self._audience and not any(name in self._audience for name in named if isinstance(name, str)):
            raise unauthorized("the token is not meant for this service", reason="not_accepted")
        if "cnf" in claims:
            raise unauthorized("the token is bound to a key of its holder; send a bearer token", reason="not_accepted")

    def _end(self, claims: Mapping[str, Any]) -> float:
        end: float = claims.get("exp", math.inf)
        return end + self._options.leeway

    async def _ask(self, token: str) -> Mapping[str, Any]:
        """Return the provider's answer; raises FetchError, ValueError. The caller bounds the time."""
        answer = orjson.loads(await self._client.ask(self._options.url, token))
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise FetchError("its answer does not say whether the token is active")
        return answer

    def _check_budget(self, address: str, rank: Rank) -> None:
        """Raise Refused (429) if `address` sent too many invented tokens to ask about a new one."""
        wait = 0.0 if rank is Rank.KNOWN else self._standing.wait_to_ask(address)
        if wait:
            message = "too many tokens that are not valid came from this address; wait before you send a new one"
            raise too_many(message, retry_after=wait)


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
