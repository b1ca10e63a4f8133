"""A second look at a caller whose request was stored, when it runs: whoever may not call any more does not.

The credential itself is not stored. A key is looked up by its name, so that one that is revoked, disabled or expired
meanwhile stops what it sent, and another policy counts. A token was good when the request came; its claims are mapped
anew. Addresses and certificates are judged by the rules of now.
"""

from middleware.auth.addresses import Addresses
from middleware.auth.authorized_keys import AuthorizedKeys, named
from middleware.auth.caller import Caller, unauthorized
from middleware.auth.certificates import Certificates
from middleware.auth.introspection import Introspection
from middleware.auth.jwt import Jwts
from middleware.auth.keys import Keys
from middleware.auth.watched import Watched
from proxy.kernel.clock import Clock
from proxy.kernel.journal import StoredCaller


class SecondLook:
    """Finds callers by what is known of them, without their credential; each part is None where it is not used."""

    def __init__(
        self,
        *,
        clock: Clock,
        keys: Watched[Keys] | None,
        authorized: Watched[AuthorizedKeys] | None,
        jwts: Jwts | None,
        introspection: Introspection | None,
        certificates: Certificates | None,
        addresses: Addresses | None,
        anonymous: Caller | None,
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._authorized = authorized
        self._jwts = jwts
        self._introspection = introspection
        self._certificates = certificates
        self._addresses = addresses
        self._anonymous = anonymous

    async def named(self, name: str) -> Caller:
        """Return the owner of the key of that name; raises Refused (401)."""
        now = self._clock.time()
        if self._keys is not None and (caller := (await self._keys.current()).named(name, now)):
            return caller
        if self._authorized is not None and (caller := named(await self._authorized.current(), name, now)):
            return caller
        raise unauthorized("no key has that name")

    async def caller(self, stored: StoredCaller) -> Caller:
        """Return who a stored caller is now; raises Refused (401, 403) where he may not call any more."""
        caller: Caller | None = None
        if stored.method in ("key", "signature") and stored.identity is not None:
            caller = await self.named(stored.identity)
        elif stored.method == "jwt" and self._jwts is not None:
            caller = self._jwts.mapped(stored.claims)
        elif stored.method == "opaque" and self._introspection is not None:
            caller = self._introspection.mapped(stored.claims)
        elif stored.method == "certificate" and self._certificates is not None:
            caller = self._certificates.mapped(stored.claims)
        elif stored.method == "none":
            caller = (self._addresses.caller(stored.client) if self._addresses is not None else None) or self._anonymous
        if caller is None:
            raise unauthorized("the caller of this deferred request may not call any more", reason="not_accepted")
        return caller
