"""The sources of an issuer's keys: a key set on the web, or the policy file."""

from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import Key, OctKey

from middleware.auth.caller import unavailable
from middleware.auth.fetch import Fetcher, FetchError
from middleware.auth.jwk_parser import KeySet, import_key_set
from middleware.auth.single_flight import SingleFlight
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused

FRESH: Final = (60.0, 24 * 3600.0)
"""Minimum and maximum seconds that a key set counts as fresh, whatever its Cache-Control says."""

FRESH_DEFAULT: Final = 600.0
"""Seconds that a key set without a max-age in its Cache-Control counts as fresh."""

AFTER_FAILURE: Final = 5.0
"""Seconds until a failed provider is asked again (or the cool-down, if that is shorter)."""

_log = structlog.get_logger("ollama_proxy.auth")


class KeySource(Protocol):
    """The source of one issuer's keys."""

    good_until: float
    """The monotonic time from which the keys found before must no longer be used."""

    async def find(self, kid: str | None) -> Sequence[Key]:
        """Return the keys with the id `kid`, all keys if it is None; raises Refused (503) if none can be had."""


class FixedKeys:
    """Keys in the policy file, or the secret of HS256."""

    good_until = float("inf")

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    @classmethod
    def secret(cls, secret: str, *, bits: int) -> "FixedKeys":
        """Return the secret of an HMAC over a hash of `bits`; raises ValueError if the secret is shorter than that.

        RFC 7518, section 3.2, requires that length.
        """
        if len(secret.encode()) * 8 < bits:
            raise ValueError(f"secret must have {bits // 8} bytes or more")
        try:
            return cls(KeySet([OctKey.import_key(secret)]))
        except (JoseError, ValueError):
            raise ValueError("secret must be random text, not a key of another kind") from None

    async def find(self, kid: str | None) -> Sequence[Key]:
        """Return the keys with the id `kid`; a key without an id matches every id."""
        return self._keys.find(kid)


class RemoteKeys:
    """The key set of a provider, fetched when it is first needed and again when it is stale.

    - Fresh keys are used as they are. Stale keys are used too, while new ones are fetched in the background.
    - A token with an unknown key id causes one fetch, and none for `cool_down` seconds after it. Invented ids cannot
      make us flood the provider with requests.
    - While the provider is down, the last good keys are used until they are `keep` seconds old. Then every token gets
    503.

    Args:
        issuer: finds the key set by discovery if `url` is None; the discovery document must name it.
        url: the URL of the key set.
    """

    def __init__(
        self, *, issuer: str, url: str | None, fetcher: Fetcher, clock: Clock, cool_down: float, keep: float
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._fetcher = fetcher
        self._clock = clock
        self._cool_down = cool_down
        self._keep = keep
        self._keys: KeySet | None = None
        self.good_until = self._stale_at = self._next_fetch = float("-inf")
        self._failed = False
        self._flight: SingleFlight[None, None] = SingleFlight()

    async def find(self, kid: str | None) -> Sequence[Key]:
        """Return the keys with the id `kid`, none if the provider does not know it; raises Refused (503)."""
        now = self._clock.monotonic()
        if now >= self.good_until:
            await self._refresh(now)
            if self._clock.monotonic() >= self.good_until:
                raise self._unavailable()
        elif now >= self._stale_at:
            self._refresh_behind(now)
        assert self._keys is not None  # noqa: S101  (it lives, so it was fetched)
        found = self._keys.find(kid)
        if not found and await self._refresh(now):
            found = self._keys.find(kid)
        if not found and self._failed:
            raise self._unavailable()
        return found

    async def _refresh(self, now: float) -> bool:
        """Fetch the keys, or wait for a running fetch; return False if it is too early for another fetch."""
        if not self._flight.running(None) and now < self._next_fetch:
            return False
        await self._flight.start(None, self._fetch)
        return True

    def _refresh_behind(self, now: float) -> None:
        if now >= self._next_fetch:
            self._flight.start(None, self._fetch)

    async def _fetch(self) -> None:
        self._next_fetch = self._clock.monotonic() + self._cool_down
        try:
            fetched = await self._fetcher.json(self._url or await self._discover())
            keys = import_key_set(fetched.document, self._issuer)
        except (FetchError, ValueError) as error:
            self._failed = True
            self._next_fetch = self._clock.monotonic() + min(self._cool_down, AFTER_FAILURE)
            _log.error("key_set_unavailable", issuer=self._issuer, problem=str(error))
            return
        now = self._clock.monotonic()
        fresh = FRESH_DEFAULT if fetched.max_age is None else min(max(fetched.max_age, FRESH[0]), FRESH[1])
        self._failed = False
        self._keys = keys
        self._stale_at = now + fresh
        self.good_until = now + max(self._keep, fresh)
        _log.info("key_set_loaded", issuer=self._issuer, keys=len(keys))

    async def _discover(self) -> str:
        """Find the key set as OpenID Connect Discovery 1.0, section 4, says; raises FetchError."""
        document = (await self._fetcher.json(self._issuer.rstrip("/") + "/.well-known/openid-configuration")).document
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise FetchError("its discovery document names another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise FetchError("its discovery document has no jwks_uri")
        return url

    def _unavailable(self) -> Refused:
        return unavailable(
            "the keys of the identity provider cannot be had; try again",
            retry_after=self._next_fetch - self._clock.monotonic(),
        )
