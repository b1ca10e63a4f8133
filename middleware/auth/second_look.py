"""The second look at the caller of a stored request: whether it may still call, and as whom, when the request runs.

It has no credential any more, which is never stored. So a key counts by its name, as the key file is now; the claims of
a token or certificate are mapped anew by the rules in force; an address, and a caller without credentials, are judged
as if they called now. A token that has expired meanwhile, or that its provider has revoked, still counts for the
requests that were accepted with it: nobody can be asked about a token that is not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from middleware.auth.addresses import Addresses
from middleware.auth.authorized_keys import AuthorizedKeys, named
from middleware.auth.caller import Caller, NotLetIn, again, revoked
from middleware.auth.keys import Keys
from middleware.auth.watched import Watched
from proxy.kernel.clock import Clock
from proxy.kernel.errors import let_go
from proxy.kernel.journal import StoredCaller


class MapsClaims(Protocol):
    """A method by which a credential with claims is known."""

    def mapped(self, claims: Mapping[str, Any]) -> Caller:
        """Return the caller that the claims say; raises Refused (401, 403)."""


@dataclass(frozen=True, slots=True)
class SecondLook:
    """The methods by which callers are known now; None for those that are not.

    Attributes:
        clock: tells whether a key has expired.
        keys: the file of API keys.
        authorized: the file of public keys of Ollama clients.
        maps: method → what maps its claims.
        addresses: the addresses that need no credentials.
        anonymous: the caller that has none.
    """

    clock: Clock
    keys: Watched[Keys] | None
    authorized: Watched[AuthorizedKeys] | None
    maps: Mapping[str, MapsClaims | None]
    addresses: Addresses | None
    anonymous: Caller | None

    async def caller(self, stored: StoredCaller) -> Caller:
        """Return the caller as it is now; raises Refused (401 where it does not count any more, 403 without a policy).

        Its identity is what it was, as the entry and its answer belong to that.
        """
        try:
            found = await self._found(stored)
        except NotLetIn as refused:
            let_go(refused)
            if refused.status == 401:
                raise revoked(f"{refused.message}; it did when this request was accepted") from None
            raise again(refused) from None
        if found is None or found.identity != stored.identity:
            raise revoked("the credential with which this request was sent does not count any more")
        return found

    async def _found(self, stored: StoredCaller) -> Caller | None:
        method, name, now = stored.method, stored.identity, self.clock.time()
        if (mapped := self.maps.get(method)) is not None:
            return mapped.mapped(stored.claims)
        if method == "key" and self.keys is not None and name is not None:
            return (await self.keys.current()).owner(name, stored.tenant, stored.policy, now)
        if method == "ollama_key" and self.authorized is not None and name is not None:
            return named(await self.authorized.current(), name, now)
        if method in ("address", "anonymous", "none"):
            listed = self.addresses.caller(stored.client) if self.addresses is not None else None
            return listed or self.anonymous
        return None
