"""The file of public keys that may call, in OpenSSH's format (sshd(8), AUTHORIZED_KEYS FILE FORMAT).

::

    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… alice@laptop
    tenant="physics",policy="research" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… bob
    expiry-time="20261231" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… intern

The comment is the identity; without a comment, the key's fingerprint is. A line with a mistake, or with an unknown
option that would restrict the key, refuses that key only.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from middleware.auth.caller import Caller, unauthorized
from middleware.auth.key_file_reader import end_of_day_of
from middleware.auth.lifetimes import Lifetimes, is_over

KIND: Final = "ssh-ed25519"

_OPTION: Final = re.compile(r'([a-z-]+)(?:="((?:[^"\\]|\\.)*)")?(?:,|[ \t]+|$)')
_HARMLESS: Final = frozenset(
    {"restrict", "no-agent-forwarding", "no-port-forwarding", "no-pty", "no-user-rc", "no-x11-forwarding"}
)
_TIMES: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}

_log = structlog.get_logger("ollama_proxy.auth")


@dataclass(frozen=True, slots=True)
class AuthorizedKey:
    """One key of the file.

    Attributes:
        blob: the public key in its wire format; clients send it to name their key.
        public: the same key, ready to verify.
        caller: the owner of the key.
        expires: seconds since 1970 from which the key is refused; None for never.
        lifetimes: measures the time left of a key that expires.
    """

    blob: bytes = field(repr=False)
    public: Ed25519PublicKey = field(repr=False)
    caller: Caller
    expires: float | None = None
    lifetimes: Lifetimes | None = field(default=None, repr=False, compare=False)

    def is_over(self, now: float) -> bool:
        """Return whether the key has expired."""
        return is_over(self.lifetimes, self.blob, self.expires, now)

    def usable(self, now: float) -> Caller:
        """Return the owner of the key; raises Refused (401) if it has expired."""
        if self.is_over(now):
            raise unauthorized("the key has expired", reason="expired")
        return self.caller


AuthorizedKeys = Mapping[bytes, AuthorizedKey]
"""The keys by `AuthorizedKey.blob`."""


def parse_authorized_keys(
    text: bytes,
    source: str,
    *,
    policies: frozenset[str],
    tenant: str | None = None,
    policy: str | None = None,
    lifetimes: Lifetimes | None = None,
) -> AuthorizedKeys:
    """Read the file. Each mistake is logged with its line.

    Args:
        text: the content of the file.
        source: the name of the file.
        policies: the names of all policies.
        tenant: the tenant of lines that name none.
        policy: the policy of lines that name none.
        lifetimes: measures from now on the time left of keys that expire.
    """
    keys: dict[bytes, AuthorizedKey] = {}
    for number, line in _lines(text):
        try:
            key = replace(_parse_line(line, tenant, policy), lifetimes=lifetimes)
            if key.caller.policy is not None and key.caller.policy not in policies:
                raise ValueError(f"there is no policy {key.caller.policy!r}")
            if key.blob in keys:
                raise ValueError("the key stands there twice")
        except ValueError as error:
            _log.error("key_refused", problem=f"{source}:{number}: {error}")
        else:
            keys[key.blob] = key
            key.is_over(0.0)  # starts the measurement of its lifetime
    return keys


def named(keys: AuthorizedKeys, name: str, now: float) -> Caller | None:
    """Return the owner of the key named `name`, without the key itself; for ``explain`` and stored requests.

    If several keys have the name, the first usable one counts. Raises Refused (401) if none is usable.
    """
    found = [key for key in keys.values() if key.caller.identity == name]
    usable = [key for key in found if not key.is_over(now)]
    return (usable or found)[0].usable(now) if found else None


def _lines(text: bytes) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(text.split(b"\n"), start=1):
        line = raw.decode("utf-8", "replace").strip()
        if line and not line.startswith("#"):
            yield number, line


def _parse_line(line: str, tenant: str | None, policy: str | None) -> AuthorizedKey:
    options: dict[str, str] = {}
    if not line.startswith(("ssh-", "ecdsa-", "sk-")):
        options, line = _options(line)
    kind, _, rest = line.partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    if kind != KIND:
        raise ValueError(f"only {KIND} keys are used; Ollama makes no others")
    try:
        public = load_ssh_public_key(f"{kind} {encoded}".encode())
        blob = b64decode(encoded, validate=True)
    except ValueError:
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError("the key cannot be read")
    identity = comment.strip() or "SHA256:" + b64encode(sha256(blob).digest()).decode().rstrip("=")
    if not identity.isprintable() or len(identity) > 256:
        raise ValueError("the comment must be printable and at most 256 characters")
    caller = Caller(identity, options.get("tenant", tenant), options.get("policy", policy), method="ollama_key")
    return AuthorizedKey(blob, public, caller, _expiry(options.get("expiry-time")))


def _options(line: str) -> tuple[dict[str, str], str]:
    """Split a line that begins with options into the options and the rest."""
    options: dict[str, str] = {}
    at = 0
    while match := _OPTION.match(line, at):
        name, value = match[1], match[2]
        if name in ("tenant", "policy", "expiry-time") and value:
            options[name] = re.sub(r"\\(.)", r"\1", value)
        elif name not in _HARMLESS:
            raise ValueError("an option is not known here; known are tenant, policy and expiry-time, with values")
        at = match.end()
        if not match[0].endswith(","):
            return options, line[at:].lstrip()
    raise ValueError("the options before the key cannot be read")


def _expiry(text: str | None) -> float | None:
    """Read ``YYYYMMDD[HHMM[SS]][Z]`` as sshd does, but always in UTC; a date alone counts to its end."""
    if text is None:
        return None
    digits = text.removesuffix("Z")
    try:
        moment = datetime.strptime(digits, _TIMES[len(digits)]).replace(tzinfo=UTC)
    except (KeyError, ValueError):
        raise ValueError("expiry-time is written YYYYMMDD or YYYYMMDDHHMM, in UTC") from None
    return (end_of_day_of(moment) if len(digits) == 8 else moment).timestamp()
