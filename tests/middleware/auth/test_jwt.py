"""JWT: the table of what must not get in, against a provider on a real socket that counts its key fetches."""

import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from middleware.auth.jwt import MAX_HEADER, REMEMBER, Jwts, is_jwt
from middleware.auth.jwt_options import JwtOptions
from proxy.kernel.errors import Refused
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.testing import ManualClock
from tests.support.provider import Provider, http, provider
from tests.support.tokens import (
    NOW,
    claims,
    ec_key,
    ed_key,
    hmac_signed,
    jwk,
    oct_key,
    pem,
    rsa_key,
    segment,
    signed,
    unsigned,
)

POLICIES = frozenset({"research", "guests"})
KEYS = "/keys"
SECRET = "0123456789abcdef0123456789abcdef"


class World:
    """A provider with three keys, a clock, and the verifier under test."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.clock = ManualClock(NOW)
        self.issuer = provider.url
        provider.answers["/.well-known/openid-configuration"] = http(
            200, {"issuer": self.issuer, "jwks_uri": self.issuer + KEYS}
        )
        provider.answers[KEYS] = http(200, {"keys": [jwk(rsa_key()), jwk(ec_key()), jwk(ed_key())]})
        self.jwts = self.verifier()

    def verifier(self, **options: Any) -> Jwts:
        settings = JwtOptions(**{"issuer": self.issuer, "audience": "ollama"} | options)
        return Jwts([settings], policies=POLICIES, clock=self.clock, keepsakes=WeakKeepsakes())

    def claims(self, **changes: object) -> dict[str, Any]:
        return claims(self.issuer, **changes)

    def header(self, **changes: object) -> dict[str, Any]:
        return {"alg": "RS256", "typ": "at+jwt", "kid": "rsa"} | changes


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with provider() as it:
        yield World(it)


@pytest.mark.parametrize(("key", "alg"), [(rsa_key, "RS256"), (rsa_key, "PS256"), (ec_key, "ES256"), (ed_key, "EdDSA")])
async def test_a_good_token_gets_in(world: World, key: Callable[[], Any], alg: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # joserfc warns of EdDSA's old name; nobody should see that for each request
        caller = await world.jwts.caller(signed(key(), world.claims(), alg))
    assert caller.identity == "alice"
    assert caller.claims["iss"] == world.issuer


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT", "JWT", "jwt", ...])
async def test_both_kinds_of_access_tokens_are_taken(world: World, typ: object) -> None:
    assert (await world.jwts.caller(signed(rsa_key(), world.claims(), typ=typ))).identity == "alice"


async def test_a_token_without_a_key_id_is_tried_with_each_key(world: World) -> None:
    assert (await world.jwts.caller(signed(ec_key(), world.claims(), "ES256", kid=...))).identity == "alice"


@pytest.mark.parametrize("audience", ["ollama", ["other", "ollama"], ["ollama"]])
async def test_the_audience_may_be_one_of_several(world: World, audience: object) -> None:
    assert (await world.jwts.caller(signed(rsa_key(), world.claims(aud=audience)))).identity == "alice"


async def test_claims_become_tenant_and_policy(world: World) -> None:
    jwts = world.verifier(tenant="org", policy="realm_access.roles", prefix="corp:")
    token = signed(rsa_key(), world.claims(org="acme", realm_access={"roles": ["x", "research"]}))
    caller = await jwts.caller(token)
    assert (caller.identity, caller.tenant, caller.policy) == ("corp:alice", "acme", "research")


def odd_claims() -> dict[str, dict[str, Any]]:
    return {
        "wrong iss": {"iss": "https://evil.example"},
        "iss with a slash more": {"iss": "http://127.0.0.1/"},
        "no iss": {"iss": ...},
        "iss a list": {"iss": ["http://127.0.0.1"]},
        "iss an object": {"iss": {"a": 1}},
        "wrong aud": {"aud": "other"},
        "no aud": {"aud": ...},
        "empty aud": {"aud": []},
        "aud an object": {"aud": {"ollama": True}},
        "aud a prefix": {"aud": "ollama2"},
        "no exp": {"exp": ...},
        "exp null": {"exp": None},
        "exp text": {"exp": str(NOW + 300)},
        "exp true": {"exp": True},
        "exp a list": {"exp": [NOW + 300]},
        "exp past": {"exp": NOW - 31},
        "exp exactly past the leeway": {"exp": NOW - 30},
        "exp zero": {"exp": 0},
        "exp negative": {"exp": -1},
        "nbf ahead": {"nbf": NOW + 60},
        "nbf text": {"nbf": "now"},
        "iat ahead": {"iat": NOW + 60},
        "bound to a key": {"cnf": {"jkt": "x"}},
        "sub a list": {"sub": ["alice"]},
        "sub a number": {"sub": 7},
    }


def odd_headers() -> dict[str, dict[str, Any]]:
    return {
        "alg none": {"alg": "none"},
        "alg None": {"alg": "None"},
        "alg nOnE": {"alg": "nOnE"},
        "alg missing": {"alg": ...},
        "alg null": {"alg": None},
        "alg a list": {"alg": ["RS256"]},
        "alg of encryption": {"alg": "RSA-OAEP"},
        "alg not listed": {"alg": "RS512"},
        "alg HS256": {"alg": "HS256"},
        "jwk": {"jwk": jwk(rsa_key("evil"))},
        "jku": {"jku": "https://evil.example/keys"},
        "x5u": {"x5u": "https://evil.example/cert"},
        "x5c": {"x5c": ["MIIB"]},
        "unknown crit": {"crit": ["exp"], "exp": 1},
        "crit b64": {"crit": ["b64"], "b64": False},
        "empty crit": {"crit": []},
        "b64": {"b64": False},
        "typ of a logout token": {"typ": "logout+jwt"},
        "typ of an event": {"typ": "secevent+jwt"},
        "typ dpop": {"typ": "dpop+jwt"},
        "typ a list": {"typ": ["at+jwt"]},
        "typ empty": {"typ": ""},
        "kid a path": {"kid": "../../../../dev/null"},
        "kid a windows path": {"kid": "..\\..\\nul"},
        "kid a number": {"kid": 7},
        "kid a list": {"kid": ["rsa"]},
        "kid empty": {"kid": ""},
        "kid with NUL": {"kid": "rsa\0"},
        "kid huge": {"kid": "k" * 257},
    }


async def refused(jwts: Jwts, token: str) -> Refused:
    with pytest.raises(Refused) as caught:
        await jwts.caller(token)
    return caught.value


@pytest.mark.parametrize("case", odd_claims())
async def test_odd_claims_are_refused_without_a_key_fetch(world: World, case: str) -> None:
    token = signed(rsa_key(), world.claims(**odd_claims()[case]))
    assert (await refused(world.jwts, token)).status == 401
    assert not world.provider.asked


@pytest.mark.parametrize("case", odd_headers())
async def test_odd_headers_are_refused_without_a_key_fetch(world: World, case: str) -> None:
    header = {name: value for name, value in world.header(**odd_headers()[case]).items() if value is not ...}
    good = signed(rsa_key(), world.claims())
    token = ".".join([segment(header), *good.split(".")[1:]])
    assert (await refused(world.jwts, token)).status == 401
    assert not world.provider.asked


def forged(world: World) -> dict[str, str]:
    """Tokens that are no tokens, or signed in a way that is not to be believed."""
    good = signed(rsa_key(), world.claims())
    header, payload, signature = good.split(".")
    public = pem(rsa_key()).encode()

    def with_exp(number: str) -> str:
        return segment(orjson.dumps(world.claims(exp=...))[:-1] + f',"exp":{number}}}'.encode())

    return {
        "none, nothing signed": unsigned({"alg": "none"}, world.claims()),
        "none, with a signature": unsigned({"alg": "none"}, world.claims(), b"x"),
        "empty signature": f"{header}.{payload}.",
        "HS256 with the public key": hmac_signed(public, world.claims(), kid="rsa"),
        "HS256 with the public key, no last newline": hmac_signed(public.strip(), world.claims(), kid="rsa"),
        "HS256 with a doctored PEM": hmac_signed(b"\n" + public.replace(b"\n", b"\r\n"), world.claims(), kid="rsa"),
        "HS256 with the key set": hmac_signed(orjson.dumps(jwk(rsa_key())), world.claims(), kid="rsa"),
        "HS256 with an empty key": hmac_signed(b"", world.claims()),
        "flattened JSON": segment({"protected": header, "payload": payload, "signature": signature}) + "..",
        "header is a list": f"{segment([])}.{payload}.{signature}",
        "header is not JSON": f"{segment(b'{')}.{payload}.{signature}",
        "header is padded": f"{header}=.{payload}.{signature}",
        "header is not base64": f"!{header}.{payload}.{signature}",
        "header is huge": f"{segment({'alg': 'RS256', 'x': 'x' * MAX_HEADER})}.{payload}.{signature}",
        "header is deep": f"{segment(b'[' * 3000)}.{payload}.{signature}",
        "payload is a list": f"{header}.{segment([])}.{signature}",
        "payload is empty": f"{header}..{signature}",
        "payload is deep": f"{header}.{segment(b'[' * 9000)}.{signature}",
        "exp is NaN": f"{header}.{with_exp('NaN')}.{signature}",
        "exp is infinite": f"{header}.{with_exp('1e999')}.{signature}",
        "exp is enormous": f"{header}.{with_exp('9' * 400)}.{signature}",
    }


async def test_forged_tokens_are_refused_without_a_key_fetch(world: World) -> None:
    for case, token in forged(world).items():
        assert (await refused(world.jwts, token)).status == 401, case
        assert not world.provider.asked, case


async def test_a_signature_by_anything_else_is_refused(world: World) -> None:
    good = signed(rsa_key(), world.claims())
    header, payload, signature = good.split(".")
    attempts = {
        "another payload": f"{header}.{segment(world.claims(sub='root'))}.{signature}",
        "another header": f"{segment(world.header(kid='ec', alg='ES256'))}.{payload}.{signature}",
        "another key under a known id": signed(rsa_key("evil"), world.claims(), kid="rsa"),
        "a key of another kind under a known id": signed(ec_key("evil"), world.claims(), "ES256", kid="rsa"),
        "a curve that the algorithm does not have": signed(ec_key("p384", "P-384"), world.claims(), "ES384"),
        "a bit less": f"{header}.{payload}.{signature[:-4]}",
        "a signature of zeros": f"{segment(world.header(alg='ES256', kid='ec'))}.{payload}.{segment(bytes(64))}",
        "PS256 said, RS256 made": f"{segment(world.header(alg='PS256'))}.{payload}.{signature}",
    }
    for case, token in attempts.items():
        assert (await refused(world.jwts, token)).status == 401, case
    assert world.provider.asked[KEYS] == 1


async def test_the_last_of_two_equal_claims_counts_in_every_check(world: World) -> None:
    doubled = orjson.dumps(world.claims())[:-1] + b',"exp":1}'
    assert "expired" in (await refused(world.jwts, signed(rsa_key(), doubled))).message


async def test_no_message_repeats_what_the_token_says(world: World) -> None:
    marked = {"iss": "canary", "aud": "canary", "typ": "canary", "kid": "canary"}
    for name, value in marked.items():
        where = {name: value}
        header = where if name in ("typ", "kid") else {}
        token = signed(rsa_key(), world.claims(**({} if header else where)), **header)
        error = await refused(world.jwts, token)
        assert "canary" not in error.message + str(error.headers)


async def test_leeway_covers_clocks_that_differ(world: World) -> None:
    for changes in ({"exp": NOW - 29}, {"nbf": NOW + 29}, {"iat": NOW + 29}):
        assert (await world.jwts.caller(signed(rsa_key(), world.claims(**changes)))).identity == "alice"


async def test_a_token_that_was_good_expires(world: World) -> None:
    token = signed(rsa_key(), world.claims(exp=NOW + 10))
    await world.jwts.caller(token)
    world.clock.advance(39)
    await world.jwts.caller(token)
    world.clock.advance(1)
    assert "expired" in (await refused(world.jwts, token)).message


async def test_a_known_token_is_not_verified_again_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed(rsa_key(), world.claims())
    first = await world.jwts.caller(token)
    monkeypatch.setattr("middleware.auth.jwt.deserialize_compact", None)
    assert await world.jwts.caller(token) is first
    world.clock.advance(61)
    with pytest.raises(TypeError):
        await world.jwts.caller(token)


async def test_a_known_token_does_not_outlive_the_last_good_keys(world: World) -> None:
    jwts = world.verifier(keep="60s")
    token = signed(rsa_key(), world.claims())
    world.provider.answers[KEYS] = http(200, {"keys": [jwk(rsa_key())]}, cache_control="max-age=1")
    await jwts.caller(token)
    world.clock.advance(59)
    world.provider.answers[KEYS] = http(500)
    assert (await jwts.caller(token)).identity == "alice"
    world.clock.advance(1)
    assert (await refused(jwts, token)).status == 503


async def test_required_scopes(world: World) -> None:
    jwts = world.verifier(scopes=("chat", "embed"))
    for granted in ({"scope": "embed chat openid"}, {"scp": ["chat", "embed"]}, {"scp": "chat embed"}):
        assert (await jwts.caller(signed(rsa_key(), world.claims(**granted)))).identity == "alice"
    for lacking in ({}, {"scope": "chat"}, {"scope": "chatembed"}, {"scope": ["chat"]}):
        error = await refused(jwts, signed(rsa_key(), world.claims(**lacking)))
        assert error.status == 403
        assert 'error="insufficient_scope"' in error.headers["www-authenticate"]


async def test_hs256_only_with_its_secret(world: World) -> None:
    jwts = world.verifier(secret=SecretStr(SECRET))
    assert (await jwts.caller(signed(oct_key(SECRET), world.claims(), "HS256", kid=...))).identity == "alice"
    assert (await jwts.caller(signed(oct_key(SECRET), world.claims(), "HS256", kid="any"))).identity == "alice"
    for token in (
        signed(oct_key(SECRET[::-1]), world.claims(), "HS256", kid=...),
        signed(oct_key(SECRET * 2), world.claims(), "HS512", kid=...),
        hmac_signed(b"", world.claims()),
        signed(rsa_key(), world.claims()),
        unsigned({"alg": "none"}, world.claims(), b"x"),
    ):
        assert (await refused(jwts, token)).status == 401
    assert not world.provider.asked


@pytest.mark.parametrize("given", [lambda: pem(rsa_key()), lambda: orjson.dumps(jwk(rsa_key())).decode()])
async def test_a_fixed_key_needs_no_provider(world: World, given: Callable[[], str]) -> None:
    jwts = world.verifier(key=given())
    assert (await jwts.caller(signed(rsa_key(), world.claims()))).identity == "alice"
    assert (await refused(jwts, signed(rsa_key("evil"), world.claims(), kid="rsa"))).status == 401
    assert not world.provider.asked


async def test_several_issuers_have_each_their_own_keys(world: World) -> None:
    async with provider() as second:
        other = World(second)
        second.answers[KEYS] = http(200, {"keys": [jwk(rsa_key("theirs"))]})
        both = Jwts(
            [
                JwtOptions(issuer=world.issuer, audience="ollama"),
                JwtOptions(issuer=other.issuer, audience="chat", prefix="other:"),
            ],
            policies=POLICIES,
            clock=world.clock,
            keepsakes=WeakKeepsakes(),
        )
        assert (await both.caller(signed(rsa_key(), world.claims()))).identity == "alice"
        assert (await both.caller(signed(rsa_key("theirs"), other.claims(aud="chat")))).identity == "other:alice"
        assert (await refused(both, signed(rsa_key("theirs"), world.claims()))).status == 401
        assert (await refused(both, signed(rsa_key("theirs"), other.claims()))).status == 401
        assert second.asked[KEYS] == 1


def test_the_same_issuer_twice_is_a_mistake() -> None:
    settings = JwtOptions(issuer="https://login.example.com", audience="ollama")
    with pytest.raises(ValueError, match="twice"):
        Jwts([settings, settings], policies=POLICIES, clock=ManualClock(), keepsakes=WeakKeepsakes())


async def test_explaining_asks_nobody_for_keys(world: World) -> None:
    jwts = world.verifier(tenant="org")
    assert jwts.unverified(signed(rsa_key("evil"), world.claims())).identity == "alice"
    with pytest.raises(Refused):
        jwts.unverified(signed(rsa_key(), world.claims(exp=1)))
    assert jwts.mapped({"sub": "bob", "org": "acme"}).tenant == "acme"
    assert jwts.mapped({"iss": world.issuer, "sub": "bob"}).identity == "bob"
    with pytest.raises(Refused):
        jwts.mapped({"iss": "https://evil.example", "sub": "bob"})
    assert not world.provider.asked


def test_what_looks_like_a_token() -> None:
    assert is_jwt("a.b.c")
    assert is_jwt("..")
    assert not is_jwt("op_a_b")
    assert not is_jwt("a.b.c.d.e")


async def test_a_clock_that_is_set_back_prolongs_no_token(world: World) -> None:
    token = signed(rsa_key(), world.claims(exp=NOW + 300, iat=NOW - 3600))
    await world.jwts.caller(token)
    world.clock.set(NOW - 200)
    for _ in range(3):
        world.clock.advance(100)
        assert (await world.jwts.caller(token)).identity == "alice"
    world.clock.advance(30)  # the leeway
    assert "expired" in (await refused(world.jwts, token)).message


async def test_what_is_remembered_ends_by_the_monotonic_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed(rsa_key(), world.claims(exp=NOW + 3600))
    await world.jwts.caller(token)
    world.clock.set(NOW - 25)
    world.clock.advance(REMEMBER)
    monkeypatch.setattr("middleware.auth.jwt.deserialize_compact", None)
    with pytest.raises(TypeError):
        await world.jwts.caller(token)


async def test_a_clock_that_is_set_forward_and_right_again_shuts_nobody_out(world: World) -> None:
    token = signed(rsa_key(), world.claims(exp=NOW + 300))
    await world.jwts.caller(token)
    world.clock.set(NOW + 10**6)
    assert "expired" in (await refused(world.jwts, token)).message
    world.clock.set(NOW)
    assert (await world.jwts.caller(token)).identity == "alice"
