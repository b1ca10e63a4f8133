"""A stored request's caller is looked up again when it runs."""

from pathlib import Path
from typing import Any

import pytest

from middleware.auth.addresses import AddressOptions
from middleware.auth.certificates import CertificateOptions
from middleware.auth.end_users import EndUserOptions
from middleware.auth.jwt_options import JwtOptions
from middleware.auth.key_file_editor import add_key, revoke_keys
from middleware.auth.keys import new_key
from middleware.auth.ollama_keys import OllamaKeysOptions
from middleware.auth.plugin import Auth
from proxy.kernel.acceptance import stored_caller_of
from proxy.kernel.defined_policies import Policies
from proxy.kernel.exchange import Exchange
from proxy.kernel.inner_request import STORED
from proxy.kernel.journal import StoredCaller
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.testing import Answer, ManualClock, call, make_exchange, ok

POLICIES = Policies({"research", "guests"})
ISSUER = JwtOptions(issuer="https://id.example.com", audience="proxy", policy="role", tenant="org")
CLAIMS = {"iss": "https://id.example.com", "sub": "alice", "role": "research", "org": "physics", "exp": 1}
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"


class Place:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.keys = folder / "keys.yaml"
        self.authorized = folder / "authorized_keys"

    def add(self, name: str, **more: Any) -> str:
        key, entry = new_key(name, now=self.clock.time(), **more)
        add_key(self.keys, entry)
        return key

    def auth(self, **options: Any) -> Auth:
        return Auth(ok, clock=self.clock, policies=POLICIES, keepsakes=WeakKeepsakes(), **options)

    async def run(self, auth: Auth, stored: StoredCaller) -> tuple[Answer, Exchange]:
        exchange = make_exchange(client=stored.client or "127.0.0.1")
        exchange.scope[STORED] = stored
        return await call(auth, exchange), exchange


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def key_of(name: str = "alice", tenant: str | None = "physics", policy: str | None = "research") -> StoredCaller:
    return StoredCaller(identity=name, tenant=tenant, policy=policy, method="key", client="10.0.0.1")


def assert_revoked(answer: Answer) -> None:
    assert answer.error is not None
    assert (answer.error.status, answer.error.code) == (401, "revoked")


async def test_what_auth_finds_is_what_is_stored(place: Place) -> None:
    key = place.add("alice", tenant="physics", policy="research")
    exchange = make_exchange(headers=[("Authorization", f"Bearer {key}")], client="10.0.0.1")
    await call(place.auth(keys=place.keys), exchange)
    assert stored_caller_of(exchange) == key_of()


async def test_a_key_counts_as_it_is_now(place: Place) -> None:
    place.add("alice", tenant="chemistry", policy="guests")
    answer, exchange = await place.run(place.auth(keys=place.keys), key_of())
    assert answer.status == 200
    assert (exchange.identity, exchange.tenant, exchange.policy) == ("alice", "chemistry", "guests")
    assert exchange.known_by == "key"


async def test_of_two_keys_of_a_name_that_of_the_same_policy(place: Place) -> None:
    place.add("alice", policy="guests")
    place.add("alice", tenant="physics", policy="research")
    _, exchange = await place.run(place.auth(keys=place.keys), key_of())
    assert (exchange.tenant, exchange.policy) == ("physics", "research")


@pytest.mark.parametrize("how", ["revoked", "expired", "renamed"])
async def test_a_key_that_does_not_count_any_more(place: Place, how: str) -> None:
    place.add("bob" if how == "renamed" else "alice", expires=place.clock.time() + 60 if how == "expired" else None)
    auth = place.auth(keys=place.keys)
    if how == "revoked":
        revoke_keys(place.keys, "alice")
        place.clock.advance(5)
    if how == "expired":
        place.clock.advance(61)
    answer, exchange = await place.run(auth, key_of())
    assert_revoked(answer)
    assert exchange.identity is None


async def test_a_method_that_the_file_has_no_more(place: Place) -> None:
    for method in ("key", "jwt", "introspection", "certificate", "ollama_key"):
        stored = StoredCaller(identity="alice", method=method, claims=CLAIMS)
        answer, _ = await place.run(place.auth(anonymous="guests"), stored)
        assert_revoked(answer)


def of_token(**claims: Any) -> StoredCaller:
    return StoredCaller(identity="alice", policy="guests", claims={**CLAIMS, **claims}, method="jwt")


async def test_claims_are_mapped_by_the_rules_of_now_though_the_token_has_expired(place: Place) -> None:
    answer, exchange = await place.run(place.auth(jwt=ISSUER), of_token())
    assert answer.status == 200
    assert (exchange.tenant, exchange.policy, exchange.known_by) == ("physics", "research", "jwt")


@pytest.mark.parametrize(
    ("claims", "status", "code"),
    [
        ({"iss": "https://other.example.com"}, 401, "revoked"),
        ({"sub": "mallory"}, 401, "revoked"),
        ({"role": "nobody"}, 403, "no_policy"),
    ],
)
async def test_claims_that_do_not_count_any_more(place: Place, claims: dict[str, Any], status: int, code: str) -> None:
    answer, _ = await place.run(place.auth(jwt=ISSUER), of_token(**claims))
    assert answer.error is not None
    assert (answer.error.status, answer.error.code) == (status, code)


async def test_the_claims_of_a_certificate(place: Place) -> None:
    auth = place.auth(mtls=CertificateOptions(tenant="o"))
    stored = StoredCaller(identity="alice", claims={"cn": ["alice"], "o": ["physics"]}, method="certificate")
    _, exchange = await place.run(auth, stored)
    assert (exchange.identity, exchange.tenant) == ("alice", "physics")


async def test_a_public_key_of_ollama(place: Place) -> None:
    place.authorized.write_text(f"{PUBLIC} alice\n")
    options = OllamaKeysOptions.model_construct(file=place.authorized, policy="guests")
    _, exchange = await place.run(place.auth(ollama_keys=options), StoredCaller(identity="alice", method="ollama_key"))
    assert (exchange.identity, exchange.policy) == ("alice", "guests")
    answer, _ = await place.run(place.auth(ollama_keys=options), StoredCaller(identity="bob", method="ollama_key"))
    assert_revoked(answer)


async def test_addresses_and_callers_without_credentials_are_judged_as_if_they_called_now(place: Place) -> None:
    near = AddressOptions(network="10.0.0.0/8", tenant="house", policy="research")
    auth = place.auth(addresses=[near], anonymous="guests")
    for method in ("address", "anonymous", "none"):
        for client, policy in [("10.0.0.1", "research"), ("192.0.2.1", "guests")]:
            _, exchange = await place.run(auth, StoredCaller(method=method, client=client))
            assert exchange.policy == policy
    answer, _ = await place.run(place.auth(addresses=[near]), StoredCaller(method="anonymous", client="192.0.2.1"))
    assert_revoked(answer)


async def test_the_person_stays_who_it_was(place: Place) -> None:
    place.add("app")
    auth = place.auth(keys=place.keys, end_users=EndUserOptions(trusted=frozenset({"app"})))
    stored = StoredCaller(identity="app", method="key", end_user="ann")
    _, exchange = await place.run(auth, stored)
    assert exchange.end_user == "ann"


async def test_no_client_can_say_that_it_is_stored(place: Place) -> None:
    place.add("alice")
    answer = await call(place.auth(keys=place.keys), make_exchange(headers=[(STORED, "alice")]))
    assert answer.error is not None
    assert (answer.error.status, answer.error.code) == (401, "invalid_api_key")
