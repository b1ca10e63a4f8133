"""Ollama's own keys: the signature that the stock CLI sends with ``OLLAMA_AUTH=1``.

The client has an Ed25519 key pair in ``~/.ollama/id_ed25519``. To ``POST /api/chat`` it adds the query ``ts=<seconds
since 1970>`` and signs the text ``POST,/api/chat?ts=1767225600`` (``api/client.go`` and ``auth/auth.go`` of Ollama)::

    Authorization: <base64 of the SSH public key>:<base64 of the signature>

A prefix that the client was given in its URL is not part of that text. What is signed is the method, the path and the
whole query, not the body, so this belongs behind TLS like every other credential, and a signature that was seen is not
taken a second time.

Ed25519 signatures hold no random part, so two equal requests within one second have the same one: ``ollama run`` asks
``/api/show`` twice as it starts. What comes over the connection that brought it first comes from the same client and is
no replay, so for a moment it is taken there. Everywhere else, and ever after, it is refused. The connection of a proxy
in front serves many clients and tells nothing; such a proxy is known by ``trusted_proxies`` or by its headers.
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

from middleware.auth.authorized_keys import AuthorizedKey, AuthorizedKeys
from middleware.auth.caller import Caller, unauthorized, unavailable
from proxy.kernel.quotas import Quota, Window
from proxy.kernel.store import Store, StoreUnavailable
from proxy.kernel.units import ConfigPath, Duration, PolicyName, Rate

WINDOW: Final = 300.0
"""Seconds that a client's clock may be off, either way."""

MOST_SEEN: Final = 100_000
"""Signatures remembered within the window. Only listed keys can fill it; beyond it signed requests wait, with 503."""

AGAIN: Final = 2.0
"""Seconds in which a client may use a signature again over its connection: its time stamps count seconds."""

Connection = tuple[str, int]
"""Address and port of the other end, which no two open connections share."""

_log = structlog.get_logger("ollama_proxy.auth")


class OllamaKeysOptions(BaseModel):
    """The keys of Ollama clients, with more than the name of their file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    file: ConfigPath
    """Public keys in OpenSSH's authorized_keys format; read again when it changes."""
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
        path: the decoded one, without the prefix.
        query: as it was sent.
        connection: what it came over; None where that may be shared by several clients.
    """

    method: str
    path: str
    query: bytes
    connection: Connection | None = None

    @property
    def text(self) -> bytes:
        """The signed text."""
        return f"{self.method},{self.path}?".encode(errors="surrogatepass") + self.query


class Replays:
    """Which signatures were used, for as long as their time stamps are taken; in buckets, one for each second.

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
        """Whether a signature of that second would be known here if it had been used."""
        return stamp >= self._since

    def first(self, stamp: int, signed: bytes, now: float, window: float) -> bool:
        """Note the digest of a signed text; False where it was noted before. Raises Refused (503): no room."""
        for old in [second for second in self._seen if second < now - window]:
            self._count -= len(self._seen.pop(old))
            self._since = max(self._since, old + 1)  # a clock that is set back must not bring it back to life
        if self._count >= MOST_SEEN:
            raise unavailable("too many signed requests; try again later", retry_after=1.0)
        bucket = self._seen.setdefault(stamp, {})
        if signed in bucket:
            return False
        bucket[signed] = None
        self._count += 1
        return True

    def let_in(self, stamp: int, signed: bytes, connection: Connection | None, now: float) -> None:
        """Note over which connection a signature that was the first was let in."""
        bucket = self._seen.get(stamp)
        if connection is not None and bucket is not None:  # it may have grown too old meanwhile
            bucket[signed] = connection, now

    def again(self, stamp: int, signed: bytes, connection: Connection | None, now: float) -> bool:
        """Whether it was let in over this connection a moment ago."""
        known = self._seen.get(stamp, {}).get(signed)
        return known is not None and known[0] == connection and 0 <= now - known[1] < AGAIN


class OllamaKeys:
    """Verifies signatures against the listed keys.

    With a store that proxies share, a signature is taken once by all of them together, whichever of them is started
    anew. Without one, and while it cannot be reached, it is taken once by each, but never by one that was started after
    it was made: it may have been used before that.

    Args:
        window: seconds that a client's clock may be off.
        store: where proxies tell each other; one in memory tells nobody.
        replays: those of the policy file before this one.
    """

    def __init__(self, window: float = WINDOW, store: Store | None = None, replays: Replays | None = None) -> None:
        self._window = window
        self._replays = Replays() if replays is None else replays
        self._store = store if store is not None and store.url != store.local.url else None
        self._once = (Window(Rate(1, 2 * window, "1/window")),)

    async def caller(self, credential: str, request: SignedRequest, keys: AuthorizedKeys, now: float) -> Caller:
        """Return who signed `request`.

        Args:
            credential: ``<public key>:<signature>`` as it stood in the header.
            request: what was asked.
            keys: who is listed.
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
        """Whether nobody took the signature before; raises Refused (401) where nobody can know."""
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
