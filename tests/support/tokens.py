"""Tokens, good and forged, made byte by byte so that nothing keeps us from making a bad one."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import Any, Final, Literal

import orjson
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

NOW: Final = 1_800_000_000


@cache
def rsa_key(kid: str = "rsa") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid})


@cache
def ec_key(kid: str = "ec", curve: Literal["P-256", "P-384"] = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": kid})


@cache
def ed_key(kid: str = "ed") -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": kid})


def jwk(key: Key, **more: object) -> dict[str, Any]:
    """The public half, as it stands in a key set."""
    return {**key.as_dict(private=False), "kid": key.kid, "use": "sig", **more}


def pem(key: RSAKey | ECKey | OKPKey) -> str:
    return key.as_pem(private=False).decode()


def claims(issuer: str, **changes: object) -> dict[str, Any]:
    """Good claims, changed; a claim set to ... is left out."""
    good = {"iss": issuer, "aud": "ollama", "sub": "alice", "iat": NOW - 10, "exp": NOW + 300, **changes}
    return {name: value for name, value in good.items() if value is not ...}


def segment(document: object) -> str:
    """One segment: JSON of `document`, or the bytes given."""
    raw = document if isinstance(document, bytes) else orjson.dumps(document)
    return urlsafe_b64encode(raw).decode().rstrip("=")


def signed(key: Key, payload: Mapping[str, Any] | bytes, alg: str = "RS256", **header: object) -> str:
    """A token with a true signature; ``kid`` is the key's unless given, and left out where it is ``...``."""
    full = {"alg": alg, "typ": "at+jwt", "kid": key.kid, **header}
    full = {name: value for name, value in full.items() if value is not ...}
    signing_input = f"{segment(full)}.{segment(payload)}"
    model = jws.JWSRegistry.algorithms[alg]
    return f"{signing_input}.{segment(model.sign(signing_input.encode(), key))}"


def unsigned(header: object, payload: object, signature: bytes = b"") -> str:
    return f"{segment(header)}.{segment(payload)}.{segment(signature)}"


def hmac_signed(secret: bytes, payload: Mapping[str, Any], **header: object) -> str:
    """What an attacker makes who uses `secret`, a public key for example, as the key of HS256."""
    signing_input = f"{segment({'alg': 'HS256', 'typ': 'at+jwt', **header})}.{segment(payload)}"
    return f"{signing_input}.{segment(hmac.new(secret, signing_input.encode(), sha256).digest())}"


def oct_key(secret: str) -> OctKey:
    return OctKey.import_key(secret)
