from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from middleware.auth.jwks import FixedKeys, RemoteKeys
from middleware.auth.jwt import Jwts
from middleware.auth.jwt_options import JwtOptions, algorithms_of, keys_of
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.testing import ManualClock
from tests.support.certificates import Authority
from tests.support.tokens import jwk, rsa_key

POLICIES = frozenset({"research"})
SECRET = "0123456789abcdef0123456789abcdef"


def options(**changes: Any) -> JwtOptions:
    return JwtOptions(**{"issuer": "https://login.example.com", "audience": "ollama"} | changes)


def test_algorithms_are_asymmetric_unless_there_is_a_secret() -> None:
    assert algorithms_of(options()) == ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
    assert algorithms_of(options(secret=SecretStr(SECRET))) == ["HS256"]
    assert algorithms_of(options(algorithms=("ES384",))) == ["ES384"]


def test_fetched_keys_are_kept_while_their_source_stays_the_same() -> None:
    clock, keepsakes = ManualClock(), WeakKeepsakes()
    keys = keys_of(options(), clock, keepsakes)
    assert keys_of(options(audience=["other", "more"], policy="role", leeway="1s"), clock, keepsakes) is keys
    for change in (
        {"issuer": "https://other.example.com"},
        {"jwks_url": "https://login.example.com/k"},
        {"keep": "1s"},
    ):
        assert keys_of(options(**change), clock, keepsakes) is not keys


def test_a_new_ca_is_another_source(tmp_path: Path) -> None:
    clock, keepsakes = ManualClock(), WeakKeepsakes()
    ca = str(Authority(tmp_path).cert)
    keys = keys_of(options(ca=ca), clock, keepsakes)
    assert keys_of(options(ca=ca), clock, keepsakes) is keys
    Authority(tmp_path)  # writes the file anew
    assert keys_of(options(ca=ca), clock, keepsakes) is not keys


def test_where_keys_come_from() -> None:
    clock = ManualClock()
    assert isinstance(keys_of(options(), clock, WeakKeepsakes()), RemoteKeys)
    assert isinstance(keys_of(options(jwks_url="https://login.example.com/keys"), clock, WeakKeepsakes()), RemoteKeys)
    assert isinstance(keys_of(options(secret=SecretStr(SECRET)), clock, WeakKeepsakes()), FixedKeys)
    assert isinstance(keys_of(options(key=orjson.dumps(jwk(rsa_key())).decode()), clock, WeakKeepsakes()), FixedKeys)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"issuer": "http://login.example.com"}, "https"),
        ({"issuer": "login.example.com"}, "https"),
        ({"jwks_url": "http://login.example.com/keys"}, "https"),
        ({"issuer": "https://user:pw@login.example.com"}, "https"),
        ({"algorithms": ("HS256",)}, "needs secret"),
        ({"secret": SecretStr(SECRET), "algorithms": ("HS256", "RS256")}, "only be HS256"),
        ({"secret": SecretStr("")}, "32 bytes"),
        ({"secret": SecretStr("short")}, "32 bytes"),
        ({"secret": SecretStr(SECRET), "algorithms": ("HS512",)}, "64 bytes"),
        ({"secret": SecretStr(SECRET), "key": "x"}, "give one of"),
        ({"key": "hello"}, "PEM"),
        ({"audience": ""}, "must not be empty"),
        ({"audience": []}, "must not be empty"),
        ({"issuer": "", "secret": SecretStr(SECRET)}, "must not be empty"),
        ({"policies": {"a": "research"}}, "needs policy"),
    ],
)
def test_mistakes_in_the_options(changes: dict[str, Any], problem: str) -> None:
    settings = options(**changes)
    with pytest.raises(ValueError, match=problem) as mistake:
        Jwts([settings], policies=POLICIES, clock=ManualClock(), keepsakes=WeakKeepsakes())
    assert SECRET not in str(mistake.value)


@pytest.mark.parametrize("algorithm", ["none", "None", "RSA-OAEP", "dir", "", "rs256"])
def test_algorithms_that_cannot_be_asked_for(algorithm: str) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        JwtOptions(issuer="https://x", audience="ollama", algorithms=(algorithm,))  # type: ignore[arg-type]
