from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import OctKey, RSAKey

from middleware.auth.jwk_parser import MAX_KEYS, KeySet, import_jwk, import_key_set, import_text
from tests.support.certificates import Authority
from tests.support.tokens import ec_key, ed_key, jwk, pem, rsa_key

ODD: list[Any] = [
    None,
    "key",
    [],
    {},
    {"kty": "RSA"},
    {"kty": ["RSA"]},
    {"kty": "RSA", "n": "!!!", "e": "AQAB"},
    {"kty": "RSA", "n": 7, "e": "AQAB"},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"},
    {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
    {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
    {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
    {"kty": "ML-DSA-65", "pub": "AA"},
    {**jwk(rsa_key()), "use": "enc"},
    {**jwk(rsa_key()), "use": ["sig"]},
    {**jwk(rsa_key()), "key_ops": ["encrypt"]},
    {**jwk(rsa_key()), "key_ops": 7},
    {**jwk(rsa_key()), "kid": 7},
]


def test_odd_keys_do_not_spoil_the_set() -> None:
    keys = import_key_set({"keys": [*ODD, jwk(rsa_key()), jwk(ec_key()), jwk(ed_key())]}, "test")
    assert [key.kid for key in keys.find(None)] == ["rsa", "ec", "ed"]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_key_is_not_used(odd: Any) -> None:
    with pytest.raises(ValueError, match="it "):
        import_jwk(odd)


def test_members_that_say_nothing_of_the_key_are_not_looked_at() -> None:
    assert import_jwk(jwk(rsa_key(), x5u="not a URL", x5c="not a list", more=1)).kid == "rsa"


def test_a_private_key_that_was_published_by_mistake_only_verifies() -> None:
    key = import_jwk({**rsa_key().as_dict(private=True), "kid": "rsa"})
    assert not key.is_private


def test_a_weak_key_is_not_used() -> None:
    weak = rsa.generate_private_key(65537, 1024).public_key()
    jwk = RSAKey.import_key(rsa_key().as_pem(private=False)).as_dict(private=False)
    numbers = weak.public_numbers()
    jwk["n"] = OctKey.import_key(numbers.n.to_bytes(128, "big")).as_dict()["k"]
    with pytest.raises(ValueError, match="2048"):
        import_jwk(jwk)
    with pytest.raises(ValueError, match="2048"):
        import_text(weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": []}, {"keys": ODD}, "keys"])
def test_a_set_without_a_usable_key_is_none(document: object) -> None:
    with pytest.raises(ValueError, match="no usable key"):
        import_key_set(document, "test")


def test_only_so_many_keys_are_looked_at() -> None:
    with pytest.raises(ValueError, match="no usable key"):
        import_key_set({"keys": [*[None] * MAX_KEYS, jwk(rsa_key())]}, "test")


def test_finding_by_id() -> None:
    nameless = import_jwk({name: value for name, value in jwk(ed_key()).items() if name != "kid"})
    twin = import_jwk(jwk(ec_key(), kid="rsa"))
    keys = KeySet([import_jwk(jwk(rsa_key())), twin, nameless])
    assert len(keys) == 3
    assert [key.key_type for key in keys.find("rsa")] == ["RSA", "EC", "OKP"]
    assert [key.key_type for key in keys.find("other")] == ["OKP"]
    assert len(keys.find(None)) == 3


@pytest.mark.parametrize("key", [rsa_key(), ec_key(), ed_key()])
def test_a_key_as_text(key: Any) -> None:
    for text in (pem(key), orjson.dumps(jwk(key)).decode(), orjson.dumps({"keys": [jwk(key)]}).decode()):
        (found,) = import_text(text).find(None)
        assert found.thumbprint() == key.thumbprint()


def test_a_certificate_as_text(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    text = Path(authority.cert).read_text()
    assert len(import_text(text)) == 1


def test_text_that_is_no_public_key() -> None:
    unusable = dsa.generate_private_key(1024).public_key()
    for text, problem in (
        ("hello", "PEM"),
        ("", "PEM"),
        ("{}", "no usable key"),
        (rsa_key().as_pem(private=True).decode(), "public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "."),
        (unusable.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "signs no tokens"),
    ):
        with pytest.raises(ValueError, match=problem):
            import_text(text)
