"""Read the public keys that verify tokens, one by one, from a key set, a PEM file or a JWK."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.util import base64_to_int

MAX_KEYS: Final = 100
"""Maximum number of keys of a set that are read."""

MIN_RSA_BITS: Final = 2048
"""The minimum of NIST SP 800-131A, section 3."""

_WEAK: Final = f"an RSA key must have {MIN_RSA_BITS} bits or more"
_TYPES: Final[Mapping[str, type[RSAKey] | type[ECKey] | type[OKPKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_PUBLIC_MEMBERS: Final = ("kty", "n", "e", "crv", "x", "y", "kid", "alg", "use", "key_ops")

_log = structlog.get_logger("ollama_proxy.auth")


class KeySet:
    """Keys by their id."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._all = keys
        self._by_id: dict[str | None, list[Key]] = defaultdict(list)
        for key in keys:
            self._by_id[key.kid].append(key)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, kid: str | None) -> Sequence[Key]:
        """Return the keys with the id `kid` and those without an id; all keys if `kid` is None."""
        if kid is None:
            return self._all
        return [*self._by_id.get(kid, ()), *self._by_id.get(None, ())]


def import_jwk(jwk: object) -> Key:
    """Read one public signature key of a key set; raises ValueError with the reason why it is not used."""
    if not isinstance(jwk, dict):
        raise ValueError("it is not an object")
    kind = _TYPES.get(str(jwk.get("kty")))
    if kind is None:
        raise ValueError("it is not a public key")  # a published symmetric key would let everybody sign
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it is not meant for signatures")
    try:
        if kind is RSAKey and base64_to_int(jwk["n"]).bit_length() < MIN_RSA_BITS:
            raise ValueError(_WEAK)
        key = kind.import_key({name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk})
        public = key.get_op_key("verify")
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"it cannot be used: {error}") from None
    if not hasattr(public, "verify"):
        raise ValueError("it is not meant for signatures")  # X25519, for example, is for key agreement
    return key


def import_key_set(document: object, source: str) -> KeySet:
    """Read a JWK set and skip each key that cannot be used; raises ValueError if no key is left."""
    keys: list[Key] = []
    jwks = document.get("keys") if isinstance(document, dict) else None
    for jwk in jwks[:MAX_KEYS] if isinstance(jwks, list) else ():
        try:
            keys.append(import_jwk(jwk))
        except ValueError as error:
            _log.info("key_set_entry_ignored", source=source, problem=str(error))
    if not keys:
        raise ValueError("there is no usable key in it")
    return KeySet(keys)


def import_text(text: str) -> KeySet:
    """Read keys given as text: a PEM public key or certificate, a JWK, or a JWK set; raises ValueError."""
    if "-----BEGIN" in text:
        return KeySet([_import_pem(text.encode())])
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("key must be a PEM public key or certificate, a JWK, or a JWK set") from None
    return import_key_set(document if "keys" in document else {"keys": [document]}, "key")


def _import_pem(pem: bytes) -> Key:
    if b"PRIVATE KEY" in pem:
        raise ValueError("key must be the public key; a private one does not belong here")
    try:
        public = x509.load_pem_x509_certificate(pem).public_key() if b"CERTIFICATE" in pem else load_pem_public_key(pem)
        encoded = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if isinstance(public, RSAPublicKey):
            if public.key_size < MIN_RSA_BITS:
                raise ValueError(_WEAK)
            return RSAKey.import_key(encoded)
        return (ECKey if isinstance(public, EllipticCurvePublicKey) else OKPKey).import_key(encoded)
    except JoseError:
        raise ValueError("key is of a kind that signs no tokens") from None
