"""The options of a token issuer, and the algorithms and keys that follow from them."""

from typing import Literal

from middleware.auth.claim_mapping import ClaimOptions
from middleware.auth.fetch import Fetcher, check_url, tls_context
from middleware.auth.jwk_parser import import_text
from middleware.auth.jwks import FixedKeys, KeySource, RemoteKeys
from proxy.kernel.clock import Clock
from proxy.kernel.keepsakes import Keepsakes
from proxy.kernel.units import ConfigFile, Duration, DurationOrZero, Secret

Asymmetric = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"
]
Symmetric = Literal["HS256", "HS384", "HS512"]


class JwtOptions(ClaimOptions):
    """One issuer of tokens."""

    issuer: str
    """The exact `iss`; keys are found by OpenID Connect discovery from it."""
    audience: str | list[str]
    """`aud` must name this, or one of these."""
    algorithms: tuple[Asymmetric | Symmetric, ...] = ()
    """The accepted `alg` values; by default RS256, PS256, ES256, EdDSA and Ed25519, or HS256 with `secret`."""
    jwks_url: str | None = None
    """URL of the key set, if the issuer offers no discovery."""
    key: str | None = None
    """A fixed key instead: PEM, JWK or JWK set, best as `file:/path`."""
    secret: Secret | None = None
    """Shared secret of HS256, 32 bytes or more, instead of keys."""
    types: tuple[str, ...] = ("at+jwt", "JWT")
    """Accepted `typ` headers; a token may also have none."""
    leeway: DurationOrZero = 30.0
    """How far clocks may differ; `0s`: not at all."""
    timeout: Duration = 5.0
    """How long the provider may take to answer."""
    cool_down: Duration = 30.0
    """Minimum time between fetches for unknown key ids."""
    keep: DurationOrZero = 24 * 3600.0
    """How long the last good keys remain valid while the provider is down; `0s`: not at all."""
    ca: ConfigFile | None = None
    """CA certificates for the provider, if the usual ones do not verify it."""
    plain_http: bool = False
    """Allow http to the provider, on a network where nobody can intercept it."""


def algorithms_of(options: JwtOptions) -> list[str]:
    """Return the accepted ``alg`` values; raises ValueError if the options contradict each other."""
    has_secret = options.secret is not None  # an empty secret is a mistake, and must not count as absent
    algorithms: list[str] = list(options.algorithms)
    if not algorithms:
        return ["HS256"] if has_secret else ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
    symmetric = [name for name in algorithms if name.startswith("HS")]
    if has_secret and len(symmetric) < len(algorithms):
        raise ValueError("with secret, algorithms can only be HS256, HS384 or HS512")
    if symmetric and not has_secret:
        raise ValueError(f"{symmetric[0]} needs secret; a public key must never be used as one")
    return algorithms


def keys_of(options: JwtOptions, clock: Clock, keepsakes: Keepsakes) -> KeySource:
    """Return the source of the issuer's keys; raises ValueError, OSError. Nothing is fetched yet.

    Fetched keys survive a reload that does not change their source: the provider may be down at that moment.
    """
    if sum(given is not None for given in (options.jwks_url, options.key, options.secret)) > 1:
        raise ValueError("give one of jwks_url, key and secret; none of them for discovery")
    if options.secret is not None:
        bits = max(int(name[2:]) for name in algorithms_of(options))
        return FixedKeys.secret(options.secret.get_secret_value(), bits=bits)
    if options.key is not None:
        return FixedKeys(import_text(options.key))
    check_url(options.jwks_url or options.issuer, plain_http=options.plain_http)
    fetcher = Fetcher(timeout=options.timeout, tls=tls_context(options.ca), plain_http=options.plain_http)
    place = (options.issuer, options.jwks_url, options.plain_http, options.ca and options.ca.read_bytes())
    times = (options.timeout, options.cool_down, options.keep)

    def remote() -> RemoteKeys:
        return RemoteKeys(
            issuer=options.issuer,
            url=options.jwks_url,
            fetcher=fetcher,
            clock=clock,
            cool_down=options.cool_down,
            keep=options.keep,
        )

    return keepsakes.keep((RemoteKeys, *place, *times), remote)
