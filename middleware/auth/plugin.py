"""`auth`: authenticates the caller, and sets its policy.

The methods are tried in this order; the first that finds its kind of credential decides:

1. a key or token in ``Authorization``, ``x-api-key`` or the path: an API key if it begins with ``op_``, a JWT if it
   looks like one, else an opaque token for introspection,
2. the signature of Ollama's own key in ``Authorization``,
3. a verified TLS client certificate,
4. the address of the caller,
5. none of these: the policy of anonymous callers, or 401.

A browser adds 3 to 5 by itself, for any page that makes it call. The frame has refused pages of other origins before.
A page can also make its own name resolve to the proxy (DNS rebinding); then Host holds that name. For 3 to 5, Host must
therefore be a name of the proxy.

A wrong credential ends the request with 401; it never falls through to the next method. Only the placeholder key
``ollama`` and an empty key count as no credential. Routes that are open to everybody (the CLI's first request, ``/``)
are not checked at all. The body is never read here. Refused callers are counted, see ``failure_throttle.py``.
"""

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from middleware.auth.address_standing import DEFAULT as DEFAULT_FAILURES
from middleware.auth.addresses import Addresses, AddressOptions
from middleware.auth.authorized_keys import named
from middleware.auth.caller import Caller, NotLetIn, unauthorized
from middleware.auth.certificates import CertificateOptions, Certificates
from middleware.auth.end_users import EndUserOptions, EndUsers
from middleware.auth.failure_throttle import Failures, FailureThrottle, kind_of
from middleware.auth.introspection import Introspection, IntrospectionOptions
from middleware.auth.jwt import Jwts, is_jwt
from middleware.auth.jwt_options import JwtOptions
from middleware.auth.key_file_reader import watched_keys
from middleware.auth.lifetimes import Lifetimes
from middleware.auth.ollama_keys import (
    OllamaKeys,
    OllamaKeysOptions,
    Replays,
    SignedRequest,
    watched_authorized_keys,
)
from middleware.auth.path_token import take_path_token
from middleware.auth.presented import Presented, presented
from middleware.auth.second_look import SecondLook
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.caller_text import KEY_PREFIX
from proxy.kernel.client_address import is_forwarded
from proxy.kernel.clock import Clock
from proxy.kernel.defined_policies import Policies
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import AuthPart
from proxy.kernel.explain import Explanation
from proxy.kernel.inner_request import stored_caller
from proxy.kernel.keepsakes import Keepsakes
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.metrics import Metrics
from proxy.kernel.store import Store
from proxy.kernel.units import ConfigPath, PolicyName


class Auth:
    """Authenticates the caller: identity, tenant and policy.

    Args:
        keys: file of API keys, which `ollama-proxy keys new` writes; read again when it changes.
        jwt: issuer of JSON Web Tokens, or several.
        introspection: provider of opaque tokens (RFC 7662).
        ollama_keys: file of the public keys of Ollama clients (`OLLAMA_AUTH=1`), or its options.
        path_token: accept a key or token in the path, `/k/<key>/api/chat`.
        mtls: how a TLS client certificate is used.
        addresses: networks whose callers need no credentials; the first entry that fits counts.
        anonymous: policy of callers without credentials; leave out to refuse them.
        end_users: which callers may say for whom they call, and where they say it: limits, the queue and the log then
            tell the people of one key apart.
        failures: how many wrong credentials an address (an IPv6 address by its /64) may send before further ones are
            answered 429, some two seconds later; `off` for no bound. A right credential is still accepted, except that
            no provider is asked about a token that is new. Each process counts for itself.
    """

    sets_policy: ClassVar = True

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        policies: Policies,
        keepsakes: Keepsakes,
        store: Store | None = None,
        hosts: KnownHosts | None = None,
        metrics: Metrics | None = None,
        keys: ConfigPath | None = None,
        jwt: JwtOptions | list[JwtOptions] | None = None,
        introspection: IntrospectionOptions | None = None,
        ollama_keys: ConfigPath | OllamaKeysOptions | None = None,
        path_token: bool = False,
        mtls: CertificateOptions | None = None,
        addresses: Sequence[AddressOptions] = (),
        anonymous: PolicyName | None = None,
        end_users: EndUserOptions | None = None,
        failures: Failures = DEFAULT_FAILURES,
    ) -> None:
        issuers = jwt if isinstance(jwt, list) else [jwt] if jwt is not None else []
        if not (keys or issuers or introspection or ollama_keys or mtls or addresses or anonymous):
            raise ValueError("auth needs at least one method, for example `keys: keys.yaml`")
        if isinstance(ollama_keys, Path):
            ollama_keys = OllamaKeysOptions.model_construct(file=ollama_keys)
        self.app = app
        self._clock = clock
        self._hosts = hosts or KnownHosts()
        self._path_token = path_token
        lives = keepsakes.keep((Lifetimes, clock), lambda: Lifetimes(clock))
        self._throttle = FailureThrottle(failures, clock, keepsakes, metrics)
        self._keys = watched_keys(keys, policies, clock, lives) if keys else None
        self._jwts = (
            Jwts(issuers, policies=policies, clock=clock, keepsakes=keepsakes, lifetimes=lives) if issuers else None
        )
        self._introspection = (
            Introspection(
                introspection, policies=policies, clock=clock, standing=self._throttle.standing, lifetimes=lives
            )
            if introspection
            else None
        )
        replays = keepsakes.keep((Replays, ollama_keys.file), lambda: Replays(clock.time())) if ollama_keys else None
        self._ollama_keys = OllamaKeys(ollama_keys.window, store, replays) if ollama_keys else None
        self._authorized = watched_authorized_keys(ollama_keys, policies, clock, lives) if ollama_keys else None
        self._certificates = Certificates(mtls, policies=policies) if mtls else None
        self._addresses = Addresses(addresses) if addresses else None
        self._end_users = EndUsers(end_users) if end_users else None
        self._anonymous = Caller(None, policy=anonymous, method="anonymous") if anonymous else None
        maps = {"jwt": self._jwts, "introspection": self._introspection, "certificate": self._certificates}
        self._second_look = SecondLook(clock, self._keys, self._authorized, maps, self._addresses, self._anonymous)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate the caller, then pass the request on; lifespan events pass unchanged."""
        if scope["type"] != "lifespan":
            exchange = Exchange.of(scope)
            if (stored := stored_caller(scope)) is not None:
                self._settle(exchange, await self._second_look.caller(stored), stored.end_user)
            else:
                await self._identify(exchange)
        await self.app(scope, receive, send)

    async def _identify(self, exchange: Exchange) -> None:
        path_token = take_path_token(exchange, enabled=self._path_token)
        if exchange.route is None or not exchange.route.open:
            self._settle(exchange, await self._let_in(exchange, path_token))
        elif self._end_users is not None:
            self._end_users.settle(exchange)

    def _settle(self, exchange: Exchange, caller: Caller, end_user: str | None = None) -> None:
        noted = exchange.part(AuthPart)
        noted.identity, noted.tenant, noted.policy = caller.identity, caller.tenant, caller.policy
        noted.claims, noted.known_by = MappingProxyType(caller.claims), caller.method
        if self._end_users is not None:
            self._end_users.settle(exchange)
        noted.end_user = noted.end_user or end_user

    async def _let_in(self, exchange: Exchange, path_token: str | None) -> Caller:
        """Return the caller, or count the refusal; raises Refused (400, 401, 403, 429, 503)."""
        credential = None
        try:
            credential = presented(exchange.scope["headers"], path_token)
            return await self._caller(credential, exchange)
        except NotLetIn as refused:
            await self._throttle.refuse(refused, kind_of(credential, exchange), exchange.client)
            raise

    async def _caller(self, credential: Presented, exchange: Exchange) -> Caller:
        """Return the owner of `credential`; raises Refused (401, 403, 429, 503)."""
        scope = exchange.scope
        if credential.token is not None:
            return await self._by_token(credential.token, exchange.client)
        if credential.signature is not None:
            return await self._by_signature(credential.signature, exchange)
        if (caller := self._by_connection(exchange)) is None:
            text = "a key is required; send it as `Authorization: Bearer <key>`"
            raise unauthorized(text, error=None, reason="missing")
        self._hosts.check(scope)
        return caller

    def _by_connection(self, exchange: Exchange) -> Caller | None:
        """Return the caller of a request without a credential; raises Refused (401, 403)."""
        if self._certificates is not None and (peer := exchange.scope.get("state", {}).get("tls_peer")):
            return self._certificates.caller(peer)
        if self._addresses is not None and (caller := self._addresses.caller(exchange.client)):
            return caller
        return self._anonymous

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain who the caller is.

        In place of a credential, `exchange.identity` may hold the name or id of a key, or `exchange.claims` the claims
        of a token. No provider is asked, so the signature of a token is not checked.
        """
        path_token = take_path_token(exchange, enabled=self._path_token)
        if exchange.route is not None and exchange.route.open:
            return Explanation("skip", "this route is open to everybody")
        try:
            caller = await self._supposed(exchange, path_token)
        except Refused as refused:
            return Explanation("refuse", refused.message)
        self._settle(exchange, caller)
        who = caller.identity or "a caller without an identity"
        return Explanation("pass", f"{who}, tenant {caller.tenant or '-'}, policy {caller.policy or '-'}")

    async def _supposed(self, exchange: Exchange, path_token: str | None) -> Caller:
        tokens = self._jwts or self._introspection
        if exchange.claims and tokens is not None:
            return tokens.mapped(exchange.claims)
        if exchange.identity is not None:
            return await self._named(exchange.identity)
        credential = presented(exchange.scope["headers"], path_token)
        token = credential.token or ""
        if not token or token.startswith(KEY_PREFIX) or tokens is None:
            return await self._caller(credential, exchange)
        if self._jwts is not None and is_jwt(token):
            return self._jwts.unverified(token)
        raise unauthorized("only the provider can read this token; give its claims instead")

    async def _named(self, name: str) -> Caller:
        now = self._clock.time()
        if self._keys is not None and (caller := (await self._keys.current()).named(name, now)):
            return caller
        if self._authorized is not None and (caller := named(await self._authorized.current(), name, now)):
            return caller
        raise unauthorized("no key has that name")

    async def _by_token(self, token: str, address: str) -> Caller:
        if self._keys is not None and token.startswith(KEY_PREFIX):
            return (await self._keys.current()).caller(token, self._clock.time())
        if self._jwts is not None and is_jwt(token):
            return await self._jwts.caller(token)
        if self._introspection is not None:
            return await self._introspection.caller(token, address)
        raise unauthorized("the key or token is of a kind that is not accepted here", reason="not_accepted")

    async def _by_signature(self, credential: str, exchange: Exchange) -> Caller:
        if self._ollama_keys is None or self._authorized is None:
            raise unauthorized("signatures of Ollama keys are not accepted here", reason="not_accepted")
        scope = exchange.scope
        shared = exchange.relayed or is_forwarded(scope)  # the connection of a proxy in front serves many clients
        connection = None if shared else scope.get("client")
        request = SignedRequest(scope["method"], scope["path"], scope["query_string"], connection)
        return await self._ollama_keys.caller(credential, request, await self._authorized.current(), self._clock.time())
