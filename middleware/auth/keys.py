"""API keys: their format, their storage and their check.

A key is ``op_<id>_<secret>``: 12 and 32 characters of ``[0-9A-Za-z]``, so the secret has 190 random bits. The file
stores the id and a keyed BLAKE2b digest of the secret, under a random salt for each key. A slow password hash is not
needed: it protects words that people make up, but 190 random bits cannot be guessed from their digest however fast the
hash is. A slow hash would also let anybody burn our CPU with wrong keys. The id makes the look-up one step, whatever
the number of keys.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final, Self

from middleware.auth.caller import UNFIT, Caller, unauthorized
from middleware.auth.lifetimes import Lifetimes, is_over
from proxy.kernel.caller_text import KEY_PREFIX

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY: Final = re.compile(r"op_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})")
NAME: Final = re.compile(rf"[^{UNFIT}]{{1,200}}")


@dataclass(frozen=True, slots=True)
class SecretHash:
    """The digest of one secret under its own salt."""

    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, secret: str, salt: bytes | None = None) -> Self:
        """Hash `secret`, under a fresh salt unless one is given."""
        salt = secrets.token_bytes(16) if salt is None else salt
        return cls(salt, hashlib.blake2b(secret.encode(), key=salt, digest_size=32).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``blake2b:<salt>:<digest>``; raises ValueError."""
        method, salt, digest = text.split(":")
        parsed = cls(bytes.fromhex(salt), bytes.fromhex(digest))
        if method != "blake2b" or len(parsed.salt) < 16 or len(parsed.salt) > 64 or len(parsed.digest) != 32:
            raise ValueError(text)
        return parsed

    def matches(self, secret: str) -> bool:
        """Compare `secret` with the digest in constant time."""
        return compare_digest(hashlib.blake2b(secret.encode(), key=self.salt, digest_size=32).digest(), self.digest)

    def __str__(self) -> str:
        return f"blake2b:{self.salt.hex()}:{self.digest.hex()}"


_NOBODY: Final = SecretHash.of(secrets.token_hex())
"""The hash for an unknown key id: checks take as long as for a known id, so the time does not tell which ids exist."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """The entry of one key in the key file.

    Attributes:
        created: seconds since 1970; for people only.
        expires: seconds since 1970 from which the key is refused; None for never.
        line: the line in the file, from 1; 0 for a key that is not in a file yet.
    """

    name: str
    id: str
    hash: SecretHash = field(repr=False)
    tenant: str | None = None
    policy: str | None = None
    created: float | None = None
    expires: float | None = None
    disabled: bool = False
    line: int = 0


def new_key(
    name: str,
    *,
    now: float,
    tenant: str | None = None,
    policy: str | None = None,
    expires: float | None = None,
) -> tuple[str, KeyEntry]:
    """Return a new key, to be shown once, and its entry for the file. Raises ValueError for a bad name."""
    if not NAME.fullmatch(name):
        raise ValueError("a name has 1 to 200 characters, none of which controls how text is shown")
    key_id, secret = _random(12), _random(32)
    entry = KeyEntry(name, key_id, SecretHash.of(secret), tenant, policy, created=now, expires=expires)
    return f"{KEY_PREFIX}{key_id}_{secret}", entry


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Keys:
    """The usable keys of a file, by id.

    Args:
        entries: the keys.
        lifetimes: measures from now on the time left of keys that expire.
    """

    def __init__(self, entries: Mapping[str, KeyEntry], lifetimes: Lifetimes | None = None) -> None:
        self._entries = entries
        self._lifetimes = lifetimes
        for entry in entries.values():
            self._is_over(entry, 0.0)

    def __len__(self) -> int:
        return len(self._entries)

    def caller(self, key: str, now: float) -> Caller:
        """Return the owner of `key`; raises Refused (401). The reason is told only to callers who have the secret."""
        match = _KEY.fullmatch(key)
        entry = self._entries.get(match[1]) if match else None
        known = (entry.hash if entry else _NOBODY).matches(match[2] if match else "")
        if entry is None or not known:
            raise unauthorized("the API key is not known")
        return self._caller(entry, now)

    def named(self, name: str, now: float) -> Caller | None:
        """Return the owner of the key with this id or name, without the key itself; for ``explain``.

        If several keys have the name, the first usable one counts. Raises Refused (401) if none is usable.
        """
        by_id = self._entries.get(name)
        found = [by_id] if by_id else [entry for entry in self._entries.values() if entry.name == name]
        usable = [entry for entry in found if not (entry.disabled or self._is_over(entry, now))]
        return self._caller((usable or found)[0], now) if found else None

    def owner(self, name: str, tenant: str | None, policy: str | None, now: float) -> Caller | None:
        """Return the owner of a usable key of this name; None where there is none.

        Of several keys, one of the same `tenant` and `policy` counts, or else the first.
        """
        found = [entry for entry in self._entries.values() if entry.name == name]
        usable = [entry for entry in found if not (entry.disabled or self._is_over(entry, now))]
        usable.sort(key=lambda entry: (entry.tenant, entry.policy) != (tenant, policy))
        return self._caller(usable[0], now) if usable else None

    def _caller(self, entry: KeyEntry, now: float) -> Caller:
        if entry.disabled:
            raise unauthorized("the API key is disabled", reason="disabled")
        if self._is_over(entry, now):
            raise unauthorized("the API key has expired", reason="expired")
        return Caller(entry.name, entry.tenant, entry.policy, method="key")

    def _is_over(self, entry: KeyEntry, now: float) -> bool:
        return is_over(self._lifetimes, entry.id, entry.expires, now)
