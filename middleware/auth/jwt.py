"""Verify JSON Web Tokens of an identity provider: plain OpenID Connect access tokens and those of RFC 9068.

All claims and headers are checked before a key is looked up, so a forged, expired or misaddressed token costs no fetch.
Then joserfc checks the signature, with an algorithm of the configured list and a key that fits it. A token that brings
its own verification key (``jwk``, ``jku``, ``x5u``, ``x5c``) is refused. So are tokens with ``crit``, and tokens bound
to a key of their holder (``cnf``): a bearer cannot prove that it has that key.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from joserfc.errors import ExpiredTokenError, JoseError, MissingClaimError, UnsupportedAlgorithmError
from joserfc.errors import InvalidClaimError as BadClaim
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry, deserialize_compact
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode

from middleware.auth.cache import TokenCache, token_digest
from middleware.auth.caller import Caller, unauthorized
from middleware.auth.claim_mapping import ClaimMap
from middleware.auth.jwt_options import JwtOptions, algorithms_of, keys_of
from middleware.auth.lifetimes import Lifetimes
from proxy.kernel.clock import Clock
from proxy.kernel.keepsakes import Keepsakes

REMEMBER: Final = 60.0
"""Seconds that a verified token is accepted from the cache."""

REMEMBERED: Final = 4096
"""Maximum number of cached tokens, per issuer list."""

MAX_HEADER: Final = 4096
"""Maximum length of the encoded header, in characters."""

_FORBIDDEN_HEADERS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64"})


class Registry(JWSRegistry):
    """The algorithms of one issuer, and no others.

    ``EdDSA`` is RFC 9864's old name of Ed25519. Providers still write it, and joserfc would warn each time.
    """

    max_header_length = MAX_HEADER

    def __init__(self, algorithms: Sequence[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)
        self._models = {name: self.algorithms[name] for name in algorithms}

    def get_alg(self, name: str) -> Any:
        """Return joserfc's model (a private type) of a listed algorithm; raises JoseError for any other."""
        try:
            return self._models[name]
        except KeyError:
            raise UnsupportedAlgorithmError from None


class Issuer:
    """Verifies the tokens of one issuer."""

    def __init__(self, options: JwtOptions, *, policies: frozenset[str], clock: Clock, keepsakes: Keepsakes) -> None:
        self.name = options.issuer
        self.keys = keys_of(options, clock, keepsakes)
        self.map = ClaimMap(options, policies, "jwt")
        self.leeway = options.leeway
        self._algorithms = algorithms_of(options)
        self._registry = Registry(self._algorithms)
        self._types = frozenset(_short_type(name) for name in options.types)
        audience = [options.audience] if isinstance(options.audience, str) else options.audience
        if not options.issuer or not audience or not all(audience):
            raise ValueError("issuer and audience must not be empty")
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock.time()),
            leeway=int(options.leeway),
            iss={"essential": True, "value": options.issuer},
            aud={"essential": True, "values": audience},
            exp={"essential": True},
        )

    def check(self, header: Mapping[str, Any], claims: dict[str, Any]) -> None:
        """Check everything that needs no key; raises Refused (401)."""
        if header.get("alg") not in self._algorithms:
            raise unauthorized("the token is not signed with an algorithm that is accepted here", reason="not_accepted")
        if not _FORBIDDEN_HEADERS.isdisjoint(header):
            raise unauthorized("the token has a header that is not accepted here", reason="not_accepted")
        kind = header.get("typ")
        if kind is not None and (not isinstance(kind, str) or _short_type(kind) not in self._types):
            raise unauthorized("the token is not an access token", reason="not_accepted")
        if "cnf" in claims:
            raise unauthorized("the token is bound to a key of its holder; send a bearer token", reason="not_accepted")
        if not _is_key_id(header.get("kid")):
            raise unauthorized("the token has an impossible key id", reason="malformed")
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise unauthorized("the token has expired", reason="expired") from None
        except (BadClaim, MissingClaimError) as error:
            raise unauthorized(
                f"the token is not for use here, or not now: see its {error.claim}", reason="not_accepted"
            ) from None

    async def verify(self, token: str, kid: str | None) -> None:
        """Check the signature; raises Refused (401 wrong signature, 503 no keys available)."""
        keys = await self.keys.find(kid)
        if not any(self._is_signed_by(token, key) for key in keys):
            raise unauthorized("the signature of the token is wrong, or its key is not known")

    def _is_signed_by(self, token: str, key: Key) -> bool:
        try:
            deserialize_compact(token, key, registry=self._registry)
        except (JoseError, ValueError):  # the key's kind, curve or size does not fit the algorithm
            return False
        return True


class Jwts:
    """Verifies tokens of any of several issuers."""

    def __init__(
        self,
        options: Iterable[JwtOptions],
        *,
        policies: frozenset[str],
        clock: Clock,
        keepsakes: Keepsakes,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        self._issuers: dict[str, Issuer] = {}
        for option in options:
            if option.issuer in self._issuers:
                raise ValueError("an issuer stands under jwt twice")
            self._issuers[option.issuer] = Issuer(option, policies=policies, clock=clock, keepsakes=keepsakes)
        self._clock = clock
        self._lifetimes = lifetimes or Lifetimes(clock)
        self._verified: TokenCache[Caller] = TokenCache(REMEMBERED, clock)

    async def caller(self, token: str) -> Caller:
        """Return the holder of `token`; raises Refused (401, 403, 503)."""
        digest = token_digest(token)
        known = self._verified.get(digest)
        if known is not None:
            return known
        header, claims = unpack(token)
        issuer = self._issuer(claims)
        issuer.check(header, claims)
        await issuer.verify(token, header.get("kid"))
        caller = issuer.map.caller(claims)
        expires = claims["exp"] + issuer.leeway
        left = self._lifetimes.left(digest, expires)
        if left <= 0:  # the monotonic clock says that it is over: the calendar was set back
            raise unauthorized("the token has expired", reason="expired")
        keys_good_for = issuer.keys.good_until - self._clock.monotonic()
        self._verified.put(digest, caller, min(left, REMEMBER, keys_good_for), expires=expires)
        return caller

    def unverified(self, token: str) -> Caller:
        """Return the caller if the signature were good; for ``explain``, which fetches no keys."""
        header, claims = unpack(token)
        issuer = self._issuer(claims)
        issuer.check(header, claims)
        return issuer.map.caller(claims)

    def mapped(self, claims: Mapping[str, Any]) -> Caller:
        """Return the caller for an issuer's claims; without ``iss``, they are the only issuer's. For ``explain``."""
        if "iss" not in claims and len(self._issuers) == 1:
            return next(iter(self._issuers.values())).map.caller(claims)
        return self._issuer(claims).map.caller(claims)

    def _issuer(self, claims: Mapping[str, Any]) -> Issuer:
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise unauthorized("the token is of an issuer that is not accepted here", reason="not_accepted")
        return issuer


def is_jwt(token: str) -> bool:
    """Return whether a token looks like a signed JWT: three segments with dots between."""
    return token.count(".") == 2


def unpack(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims, unverified; raises Refused (401)."""
    header, claims, signature = token.split(".")
    if not signature or len(header) > MAX_HEADER:
        raise unauthorized("the token is not signed", reason="malformed")
    return _object(header), _object(claims)


def _object(segment: str) -> dict[str, Any]:
    try:
        document = orjson.loads(urlsafe_b64decode(segment.encode()))
    except ValueError:  # binascii.Error and orjson.JSONDecodeError are subclasses
        document = None
    if not isinstance(document, dict):
        raise unauthorized("the token is not well-formed", reason="malformed")
    return document


def _is_key_id(kid: object) -> bool:
    """Return whether `kid` is worth a look-up: providers use digests, UUIDs and words, never a path."""
    return kid is None or (isinstance(kid, str) and 0 < len(kid) <= 256 and kid.isprintable() and ".." not in kid)


def _short_type(name: str) -> str:
    """Return the short form of a type: ``application/at+jwt`` and ``AT+JWT`` are equal (RFC 7515, section 4.1.9)."""
    return name.lower().removeprefix("application/")
