"""Verify Ollama's own signatures, which the stock CLI sends with ``OLLAMA_AUTH=1``.

The client has an Ed25519 key pair in ``~/.ollama/id_ed25519``. To ``POST /api/chat`` it adds the query ``ts=<seconds
since 1970>`` and signs the text ``POST,/api/chat?ts=1767225600`` (``api/client.go`` and ``auth/auth.go`` of Ollama)::

    Authorization: <base64 of the SSH public key>:<base64 of the signature>

A path prefix in the client's URL is not part of that text. The signature covers the method, the path and the whole
query, but not the body. It therefore needs TLS like every other credential, and each signature is accepted only once.

Ed25519 signatures hold no random part, so two equal requests within one second have the same signature: ``ollama run``
asks ``/api/show`` twice as it starts. A request on the connection that brought the signature first comes from the same
client and is no replay, so for a moment the signature is accepted there. Everywhere else, and at any later time, it is
refused. The connection of a proxy in front serves many clients, so this exception does not apply to it; such a proxy is
known by ``trusted_proxies`` or by its headers.
"""

import binascii
from base64 import b64decode
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from urllib.parse import parse_qsl

import structlog
from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel, ConfigDict

from middleware.auth.authorized_keys import AuthorizedKey, AuthorizedKeys, parse_authorized_keys
from middleware.auth.caller import Caller, unauthorized, unavailable
from middleware.auth.lifetimes import Lifetimes
from middleware.auth.watched import Watched
from proxy.kernel.clock import Clock
from proxy.kernel.defined_policies import Policies
from proxy.kernel.quotas import Quota, Window
from proxy.kernel.store import Store, StoreUnavailable
from proxy.kernel.units import ConfigPath, Duration, PolicyName, Rate

WINDOW: Final = 300.0
"""Seconds that a client's clock may be off, either way."""

MOST_SEEN: Final = 100_000
"""Maximum number of signatures in the replay memory; beyond it, signed requests get 503. Only listed keys fill it."""

AGAIN: Final = 2.0
"""Seconds in which a client may reuse a signature on its connection, since its time stamps count whole seconds."""

Connection = tuple[str, int]
"""Address and port of the client; no two open connections have the same pair."""

_log = structlog.get_logger("ollama_proxy.auth")


class OllamaKeysOptions(BaseModel):
    """The public keys of Ollama clients, with options."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    file: ConfigPath
    """Public keys in OpenSSH's authorized_keys format; read again when the file changes."""
    window: Duration = WINDOW
    """How far a client's clock may be off."""
    tenant: str | None = None
    """Tenant of keys whose line has no `tenant="…"`."""
    policy: PolicyName | None = None
    """Policy of keys whose line has no `policy="…"`."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request with a signature, which covers method, path and query.

    Attributes:
        path: the decoded path, without the prefix.
        query: the query as it was sent.
        connection: the client's connection; None if several clients may share it.
    """

    method: str
    path: str
    query: bytes
    connection: Connection | None = None

    @property
    def text(self) -> bytes:
        """Return the signed text."""
        return f"{self.method},{self.path}?".encode(errors="surrogatepass") + self.query


class Replays:
    """The memory of used signatures, kept while their time stamps are valid; one bucket for each second.

    Args:
        since: seconds since 1970 from which on nothing was forgotten.
    """

    def __init__(self, since: float = 0.0) -> None:
        self._since = int(since)
        self._seen: dict[int, dict[bytes, tuple[Connection, float] | None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def covers(self, stamp: int) -> bool:
        """Return whether this memory covers the time `stamp`: a signature used at that time would be in it."""
        return stamp >= self._since

    def first(self, stamp: int, signed: bytes, now: float, window: float) -> bool:
        """Record the digest of a signed text; return False if it is known. Raises Refused (503) if there is no room."""
        for old in [second for second in self._seen if second < now - window]:
            self._count -= len(self._seen.pop(old))
            self._since = max(self._since, old + 1)  # a clock that is set back must not make it valid again
        if self._count >= MOST_SEEN:
            raise unavailable("too many signed requests; try again later", retry_after=1.0)
        bucket = self._seen.setdefault(stamp, {})
        if signed in bucket:
            return False
        bucket[signed] = None
        self._count += 1
        return True

    def let_in(self, stamp: int, signed: bytes, connection: Connection | None, now: float) -> None:
        """Record the connection on which a first signature was accepted."""
        bucket = self._seen.get(stamp)
        if connection is not None and bucket is not None:  # the bucket may have expired meanwhile
            bucket[signed] = connection, now

    def again(self, stamp: int, signed: bytes, connection: Connection | None, now: float) -> bool:
        """Return whether the signature was accepted on this connection a moment ago."""
        known = self._seen.get(stamp, {}).get(signed)
        return known is not None and known[0] == connection and 0 <= now - known[1] < AGAIN


class OllamaKeys:
    """Verifies signatures against the listed keys.

    With a store that proxies share, all proxies together accept a signature once, even if one of them restarts. Without
    such a store, or while it cannot be reached, each proxy accepts a signature once. A proxy then refuses signatures
    made before it started, because they may have been used before.

    Args:
        window: seconds that a client's clock may be off.
        store: the store that proxies share; a store in memory is not shared.
        replays: the replay memory of the previous policy file.
    """

    def __init__(self, window: float = WINDOW, store: Store | None = None, replays: Replays | None = None) -> None:
        self._window = window
        self._replays = Replays() if replays is None else replays
        self._store = store if store is not None and store.url != store.local.url else None
        self._once = (Window(Rate(1, 2 * window, "1/window")),)

    async def caller(self, credential: str, request: SignedRequest, keys: AuthorizedKeys, now: float) -> Caller:
        """Return the caller who signed `request`.

        Args:
            credential: ``<public key>:<signature>`` from the header.
            request: the signed request.
            keys: the listed keys.
            now: seconds since 1970.

        Raises Refused (401, 503).
        """
        encoded_key, _, encoded_signature = credential.partition(":")
        key = keys.get(_decoded(encoded_key))
        stamp = _stamp(request.query)
        if stamp is None or abs(now - stamp) > self._window:
            raise unauthorized("the signature is too old or its clock is off: compare the clocks", reason="expired")
        if key is None or not _verifies(key, _decoded(encoded_signature), request.text):
            raise unauthorized("the signature is wrong or its key is not listed")
        caller = key.usable(now)
        signed = blake2b(key.blob + request.text, digest_size=16).digest()
        if not self._replays.again(stamp, signed, request.connection, now):
            first = self._replays.first(stamp, signed, now, self._window)
            if not first or not await self._first_anywhere(stamp, signed):
                raise unauthorized("the signature was used before; sign each request anew", reason="replayed")
            self._replays.let_in(stamp, signed, request.connection, now)
        return caller

    async def _first_anywhere(self, stamp: int, signed: bytes) -> bool:
        """Return whether no proxy accepted the signature before; raises Refused (401) if that cannot be known."""
        if self._store is not None:
            try:
                quota = Quota(f"ollama-signature/{signed.hex()}", requests=self._once, asked_again=False)
                admission = await self._store.admit([quota])
            except StoreUnavailable as error:
                _log.warning("signatures_remembered_by_this_process_only", problem=str(error))
            else:
                return not admission.full
        if not self._replays.covers(stamp):
            raise unauthorized(
                "the signature was made before this proxy was started; send the request again", reason="expired"
            )
        return True


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise unauthorized("the signature is not well-formed", reason="malformed") from None


def _stamp(query: bytes) -> int | None:
    stamps = [value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if name == "ts"]
    if len(stamps) != 1 or not (stamps[0].isascii() and stamps[0].isdecimal() and len(stamps[0]) <= 12):
        return None
    return int(stamps[0])


def _verifies(key: AuthorizedKey, signature: bytes, text: bytes) -> bool:
    try:
        key.public.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def watched_authorized_keys(
    options: OllamaKeysOptions, policies: Policies, clock: Clock, lives: Lifetimes
) -> Watched[AuthorizedKeys]:
    """Return the keys of a file that is read again when it changes."""

    def parse(text: bytes) -> AuthorizedKeys:
        return parse_authorized_keys(
            text,
            str(options.file),
            policies=policies,
            tenant=options.tenant,
            policy=options.policy,
            lifetimes=lives,
        )

    return Watched(options.file, parse, clock=clock)
