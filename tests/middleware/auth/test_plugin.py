"""`auth` as a plugin: what it sets, what it refuses, in which order it asks. The methods have tests of their own."""

from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from middleware.auth import failure_throttle
from middleware.auth.address_standing import DEFAULT
from middleware.auth.addresses import AddressOptions
from middleware.auth.certificates import CertificateOptions
from middleware.auth.failure_throttle import Failures
from middleware.auth.introspection import IntrospectionOptions
from middleware.auth.jwt_options import JwtOptions
from middleware.auth.key_file_editor import add_key, revoke_keys
from middleware.auth.keys import new_key
from middleware.auth.ollama_keys import OllamaKeysOptions
from middleware.auth.plugin import Auth
from proxy.kernel.asgi import ASGIApp
from proxy.kernel.defined_policies import Policies
from proxy.kernel.error_rendering import render
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explains
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.metrics import Metrics
from proxy.kernel.units import Rate
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.testing import Answer, ManualClock, call, make_exchange, ok, suppose
from tests.conftest import Need
from tests.support.asgi import hands_send_on, unread
from tests.support.ollama_cli import SSH_KEYGEN, OllamaKey
from tests.support.provider import Provider, http, provider
from tests.support.tokens import claims, jwk, rsa_key, signed

POLICIES = Policies({"research", "guests"})


class Team:
    """A key file with two keys, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.file = folder / "keys.yaml"
        self.alice, entry = new_key("alice", now=self.clock.time(), tenant="physics", policy="research")
        add_key(self.file, entry)
        self.bob, entry = new_key("bob", now=self.clock.time(), expires=self.clock.time() + 60)
        add_key(self.file, entry)

    def auth(self, *, path_token: bool = False, anonymous: str | None = None) -> Auth:
        return Auth(
            ok,
            clock=self.clock,
            policies=POLICIES,
            keepsakes=WeakKeepsakes(),
            keys=self.file,
            path_token=path_token,
            anonymous=anonymous,
        )


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def bearer(key: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {key}")]


@pytest.mark.parametrize("how", ["bearer", "x-api-key", "basic", "path"])
async def test_a_key_is_taken_from_each_of_its_places(team: Team, how: str) -> None:
    path, headers = "/api/chat", []
    match how:
        case "bearer":
            headers = bearer(team.alice)
        case "x-api-key":
            headers = [("x-api-key", team.alice)]
        case "basic":
            headers = [("Authorization", "Basic " + b64encode(f"any:{team.alice}".encode()).decode())]
        case "path":
            path = f"/k/{team.alice}/api/chat"
    exchange = make_exchange("POST", path, headers=headers)
    answer = await call(team.auth(path_token=True), exchange)
    assert answer.status == 200
    assert (exchange.identity, exchange.tenant, exchange.policy) == ("alice", "physics", "research")


async def test_a_key_without_tenant_and_policy_sets_neither(team: Team) -> None:
    exchange = make_exchange(headers=bearer(team.bob))
    await call(team.auth(), exchange)
    assert (exchange.identity, exchange.tenant, exchange.policy) == ("bob", None, None)


async def test_without_credentials_the_challenge_names_no_error(team: Team) -> None:
    answer = await call(team.auth(), make_exchange())
    assert answer.error is not None
    assert answer.error.status == 401
    assert answer.error.headers["www-authenticate"] == 'Bearer realm="ollama-proxy"'


@pytest.mark.parametrize(
    "headers",
    [
        bearer("op_4fQn0ZrT7LkP_0123456789abcdef0123456789abcdef"),
        bearer("sk-something-else"),
        bearer("eyJhbGciOiJub25lIn0.e30."),
        [("Authorization", "Negotiate YII=")],
        [("Authorization", "AAAAC3NzaC1lZDI1NTE5AAAAIA==:c2lnbmF0dXJl")],
        [("x-api-key", "wrong")],
    ],
)
async def test_a_bad_credential_never_becomes_an_anonymous_caller(team: Team, headers: list[tuple[str, str]]) -> None:
    exchange = make_exchange(headers=headers)
    answer = await call(team.auth(anonymous="guests"), exchange)
    assert answer.error is not None
    assert answer.error.status == 401
    assert 'error="invalid_' in answer.error.headers["www-authenticate"]
    assert exchange.policy is None


@pytest.mark.parametrize("headers", [[], bearer("ollama"), [("x-api-key", "ollama")]])
async def test_no_key_and_the_placeholder_are_anonymous(team: Team, headers: list[tuple[str, str]]) -> None:
    exchange = make_exchange(headers=headers)
    answer = await call(team.auth(anonymous="guests"), exchange)
    assert answer.status == 200
    assert (exchange.identity, exchange.policy) == (None, "guests")


async def test_expiry_and_revocation_count_at_once(team: Team) -> None:
    auth = team.auth()
    assert (await call(auth, make_exchange(headers=bearer(team.bob)))).status == 200
    team.clock.advance(60)
    refused = (await call(auth, make_exchange(headers=bearer(team.bob)))).error
    assert refused is not None
    assert "expired" in refused.message
    revoke_keys(team.file, "alice")
    team.clock.advance(1)
    refused = (await call(auth, make_exchange(headers=bearer(team.alice)))).error
    assert refused is not None
    assert "disabled" in refused.message


async def test_a_new_key_works_without_a_restart(team: Team) -> None:
    auth = team.auth()
    carl, entry = new_key("carl", now=team.clock.time())
    add_key(team.file, entry)
    assert (await call(auth, make_exchange(headers=bearer(carl)))).error is not None
    team.clock.advance(1)
    assert (await call(auth, make_exchange(headers=bearer(carl)))).status == 200


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/"), ("GET", "/"), ("HEAD", "/k/wrong/"), ("HEAD", "/k/wrong")])
async def test_the_first_question_of_the_cli_needs_no_key(team: Team, method: str, path: str) -> None:
    assert (await call(team.auth(path_token=True), make_exchange(method, path))).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/tags"), ("POST", "/"), ("GET", "//"), ("GET", "/nowhere"), ("OPTIONS", "/api/chat"), ("HEAD", "/.")],
)
async def test_everything_else_needs_one(team: Team, method: str, path: str) -> None:
    answer = await call(team.auth(), make_exchange(method, path))
    assert answer.error is not None
    assert answer.error.status == 401


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("rest", ["/api/chat", "", "/", "/nowhere"])
async def test_a_wrong_or_unwanted_path_token_is_in_no_error(team: Team, enabled: bool, rest: str) -> None:
    wrong = replace(new_key("mallory", now=0)[1]).id + "_secret"
    exchange = make_exchange("POST", f"/k/{wrong}{rest}")
    answer = await call(team.auth(path_token=enabled), exchange)
    assert answer.error is not None
    assert answer.error.status == 401
    for flavor in ("ollama", "openai", "anthropic", "text"):
        assert wrong not in str(render(flavor, answer.error))
    assert wrong not in repr({name: value for name, value in exchange.scope.items() if value is not exchange})
    assert wrong not in repr(exchange)


async def test_the_query_is_not_looked_at(team: Team) -> None:
    for name in (b"key", b"api_key", b"access_token", b"token"):
        exchange = make_exchange(query=name + b"=" + team.alice.encode())
        assert (await call(team.auth(), exchange)).error is not None


async def test_the_body_is_not_read(team: Team) -> None:
    exchange = make_exchange(body=[b"{", b"}"])
    rest = unread(exchange)
    await call(team.auth(), exchange)
    assert (await rest())["body"] == b"{"


PEER = {"subject": ((("commonName", "ci"),),)}
ADDRESS = AddressOptions(network="10.0.0.0/8", identity="office")


class Everything:
    """`auth` with every method, and one good credential of each."""

    def __init__(self, team: Team, provider: Provider, key: OllamaKey) -> None:
        self.team = team
        self.key = key
        self.provider = provider
        self.issuer = provider.url
        provider.answers["/keys"] = http(200, {"keys": [jwk(rsa_key())]})
        provider.answers["/introspect"] = lambda form: http(
            200, {"active": True, "sub": "carol"} if form["token"] == "opaque" else {"active": False}
        )
        listed = team.file.parent / "authorized_keys"
        listed.write_text(f'tenant="physics",policy="research" {key.line}\n')
        self.keepsakes = WeakKeepsakes()
        self.ports = count(1024)
        self.auth = self.loaded()

    def loaded(self) -> Auth:
        """Return the plugin as a policy file makes it that is loaded (again)."""
        return Auth(
            ok,
            clock=self.team.clock,
            policies=POLICIES,
            keepsakes=self.keepsakes,
            keys=self.team.file,
            jwt=JwtOptions(issuer=self.issuer, audience="ollama", jwks_url=f"{self.issuer}/keys"),
            introspection=IntrospectionOptions(
                url=f"{self.issuer}/introspect", client_id="proxy", client_secret=SecretStr("secret")
            ),
            ollama_keys=self.team.file.parent / "authorized_keys",
            path_token=True,
            mtls=CertificateOptions(),
            addresses=[ADDRESS],
            anonymous="guests",
        )

    def jwt(self, **changes: object) -> str:
        return signed(rsa_key(), claims(self.issuer, **changes))

    def signature(self, path: str = "/api/chat") -> str:
        return self.key.authorization("POST", path, self.team.clock.time())

    async def asked(
        self,
        path: str = "/api/chat",
        headers: list[tuple[str, str]] | None = None,
        *,
        client: str = "127.0.0.1",
        port: int | None = None,
        peer: object = None,
        stamp: float | None = None,
        relayed: bool = False,
    ) -> tuple[int | None, str | None, str | None]:
        """Return status, identity and policy; each comes over a connection of its own unless `port` says which."""
        query = f"ts={int(stamp or self.team.clock.time())}".encode()
        exchange = make_exchange("POST", path, headers=headers or [], client=client, query=query)
        exchange.scope["client"] = (client, port or next(self.ports))
        suppose(exchange, relayed=relayed)
        if peer:
            exchange.scope["state"]["tls_peer"] = peer
        answer = await call(self.auth, exchange)
        return (answer.error.status if answer.error else answer.status), exchange.identity, exchange.policy


@pytest.fixture
async def everything(team: Team, tmp_path: Path, need: Need) -> AsyncIterator[Everything]:
    need("ssh-keygen", SSH_KEYGEN is not None)
    async with provider() as it:
        yield Everything(team, it, OllamaKey(tmp_path, "erin"))


async def test_each_method_finds_its_caller(everything: Everything) -> None:
    it = everything
    assert await it.asked(headers=bearer(it.team.alice)) == (200, "alice", "research")
    assert await it.asked(headers=bearer(it.jwt(sub="dave"))) == (200, "dave", None)
    assert await it.asked(headers=[("x-api-key", it.jwt(sub="dave"))]) == (200, "dave", None)
    assert await it.asked(f"/k/{it.jwt(sub='dave')}/api/chat") == (200, "dave", None)
    assert await it.asked(headers=bearer("opaque")) == (200, "carol", None)
    assert await it.asked(headers=[("Authorization", it.signature())]) == (200, "erin", "research")
    assert await it.asked(peer=PEER) == (200, "ci", None)
    assert await it.asked(client="10.1.1.1") == (200, "office", None)
    assert await it.asked() == (200, None, "guests")


@pytest.mark.parametrize("rebound", [False, True])
async def test_what_a_browser_adds_by_itself_counts_at_a_known_host_only(everything: Everything, rebound: bool) -> None:
    it = everything
    host = ("host", "evil.example:11435" if rebound else "localhost:11435")
    refused = (403, None, None)
    assert await it.asked(headers=[host], peer=PEER) == (refused if rebound else (200, "ci", None))
    assert await it.asked(headers=[host], client="10.1.1.1") == (refused if rebound else (200, "office", None))
    assert await it.asked(headers=[host]) == (refused if rebound else (200, None, "guests"))
    assert await it.asked(headers=[host, *bearer("ollama")]) == (refused if rebound else (200, None, "guests"))
    # What the caller himself has put into the request
    assert await it.asked(headers=[host, *bearer(it.team.alice)], peer=PEER) == (200, "alice", "research")
    assert await it.asked(headers=[host, *bearer(it.jwt(sub="dave"))]) == (200, "dave", None)
    assert await it.asked(f"/k/{it.jwt(sub='dave')}/api/chat", headers=[host]) == (200, "dave", None)
    assert await it.asked(headers=[host, ("Authorization", it.signature())]) == (200, "erin", "research")


async def test_the_known_hosts_are_those_of_the_policy_file(team: Team) -> None:
    for hosts, status in ((None, 403), (KnownHosts(["llm.example.com"]), 200)):
        auth = Auth(
            ok,
            clock=team.clock,
            policies=POLICIES,
            keepsakes=WeakKeepsakes(),
            hosts=hosts,
            keys=team.file,
            anonymous="guests",
        )
        answer = await call(auth, make_exchange(headers=[("host", "llm.example.com")]))
        assert (answer.status or (answer.error and answer.error.status)) == status


async def test_who_would_be_refused_anyway_is_told_that_a_key_is_missing(team: Team) -> None:
    answer = await call(team.auth(), make_exchange(headers=[("host", "evil.example")]))
    assert answer.error is not None
    assert answer.error.status == 401


async def test_the_first_method_that_finds_something_decides(everything: Everything) -> None:
    it = everything
    everywhere = {"client": "10.1.1.1", "peer": PEER}
    assert await it.asked(headers=bearer(it.team.alice), **everywhere) == (200, "alice", "research")  # type: ignore[arg-type]
    assert await it.asked(**everywhere) == (200, "ci", None)  # type: ignore[arg-type]
    assert await it.asked(headers=bearer("ollama"), client="10.1.1.1") == (200, "office", None)


async def test_none_falls_through_to_the_next(everything: Everything) -> None:
    it = everything
    bad: list[list[tuple[str, str]]] = [
        bearer("op_4fQn0ZrT7LkP_0123456789abcdef0123456789abcdef"),
        bearer("op_"),
        bearer(it.jwt(exp=1)),
        bearer(it.jwt(iss="https://evil.example")),
        bearer(it.jwt()[:-8]),
        bearer("revoked"),
        [("Authorization", it.signature("/api/pull"))],
        [("Authorization", "Negotiate YII=")],
    ]
    for headers in bad:
        assert await it.asked(headers=headers, client="10.1.1.1", peer=PEER) == (401, None, None)
    assert await it.asked(client="10.1.1.1", peer={"subject": ()}) == (401, None, None)


async def test_a_signature_made_for_a_prefix_that_was_taken_away(everything: Everything) -> None:
    # OLLAMA_HOST=https://proxy/k/ollama and OLLAMA_AUTH=1: the CLI signs the path without its prefix
    it = everything
    assert await it.asked("/k/ollama/api/chat", [("Authorization", it.signature())]) == (200, "erin", "research")


async def test_a_signature_is_taken_once(everything: Everything) -> None:
    headers = [("Authorization", everything.signature())]
    assert (await everything.asked(headers=headers))[0] == 200
    assert (await everything.asked(headers=headers))[0] == 401


async def test_after_a_reload_no_signature_is_taken_again(everything: Everything) -> None:
    headers = [("Authorization", everything.signature())]
    assert (await everything.asked(headers=headers))[0] == 200
    everything.auth = everything.loaded()
    assert (await everything.asked(headers=headers))[0] == 401


async def test_a_reload_while_the_provider_is_down_shuts_nobody_out(everything: Everything) -> None:
    it = everything
    assert await it.asked(headers=bearer(it.jwt(sub="dave"))) == (200, "dave", None)
    it.provider.answers.clear()
    it.auth = it.loaded()
    assert await it.asked(headers=bearer(it.jwt(sub="dave", jti="another"))) == (200, "dave", None)
    assert it.provider.asked["/keys"] == 1


async def test_after_a_restart_no_signature_is_taken_again(everything: Everything) -> None:
    headers = [("Authorization", everything.signature())]
    stamp = everything.team.clock.time()
    assert (await everything.asked(headers=headers))[0] == 200
    everything.team.clock.advance(1)
    everything.keepsakes = WeakKeepsakes()  # another process
    everything.auth = everything.loaded()
    assert (await everything.asked(headers=headers, stamp=stamp))[0] == 401


@pytest.mark.parametrize(
    ("forwarded", "status"), [([], 200), ([("Via", "1.1 edge")], 401), ([("X-Forwarded-For", "::1")], 401)]
)
async def test_only_a_connection_that_is_the_clients_own_tells_that_it_is_he_again(
    everything: Everything, forwarded: list[tuple[str, str]], status: int
) -> None:
    headers = [("Authorization", everything.signature()), *forwarded]
    assert (await everything.asked(headers=headers, port=50000))[0] == 200
    assert (await everything.asked(headers=headers, port=50000))[0] == status
    assert (await everything.asked(headers=headers, port=50001))[0] == 401


async def test_a_trusted_proxy_has_one_connection_for_many_even_if_it_does_not_say_so(everything: Everything) -> None:
    headers = [("Authorization", everything.signature())]
    assert (await everything.asked(headers=headers, port=50000, relayed=True))[0] == 200
    assert (await everything.asked(headers=headers, port=50000, relayed=True))[0] == 401


async def test_a_key_that_leaves_the_file_is_refused(everything: Everything) -> None:
    it = everything
    (it.team.file.parent / "authorized_keys").write_text("# nobody\n")
    it.team.clock.advance(1)
    assert (await it.asked(headers=[("Authorization", it.signature())]))[0] == 401


async def test_no_credential_is_in_any_log_or_error(everything: Everything) -> None:
    it = everything
    canaries = [
        "op_4fQn0ZrT7LkP_canary0123456789abcdef0123456789",
        "canary-opaque",
        it.jwt(exp=1, canary="canary"),
        "eyJhbGciOiJub25lIn0.canary.canary",
    ]
    with capture_logs() as logs:
        for canary in canaries:
            for path, headers in (("/api/chat", bearer(canary)), (f"/k/{canary}/v1/messages", [])):
                exchange = make_exchange("POST", path, headers=headers)
                answer = await call(it.auth, exchange)
                assert answer.error is not None
                said = str(render(exchange.flavor, answer.error)) + str(answer.error.headers) + repr(exchange)
                assert canary not in said
                assert "canary" not in said
    assert all(canary not in str(logs) for canary in canaries)


async def explained(
    it: Everything, path: str = "/api/chat", headers: list[tuple[str, str]] | None = None, **given: object
) -> tuple[str, str, Exchange]:
    exchange = make_exchange("POST", path, headers=headers or [], client=str(given.pop("client", "127.0.0.1")))
    suppose(exchange, **given)
    explanation = await it.auth.explain(exchange)
    return explanation.verdict, explanation.text, exchange


async def test_explaining_a_credential(everything: Everything) -> None:
    it = everything
    assert isinstance(it.auth, Explains)
    verdict, text, exchange = await explained(it, headers=bearer(it.team.alice))
    assert (verdict, text) == ("pass", "alice, tenant physics, policy research")
    assert (exchange.identity, exchange.policy) == ("alice", "research")
    assert (await explained(it, headers=bearer("op_what")))[:2] == ("refuse", "the API key is not known")
    assert (await explained(it, headers=bearer(it.jwt(sub="dave"))))[:2] == ("pass", "dave, tenant -, policy -")
    assert (await explained(it, headers=bearer(it.jwt(exp=1))))[0] == "refuse"
    assert "claims" in (await explained(it, headers=bearer("opaque")))[1]
    assert (await explained(it))[:2] == ("pass", "a caller without an identity, tenant -, policy guests")
    assert (await explained(it, client="10.1.1.1"))[1] == "office, tenant -, policy -"
    assert (await explained(it, f"/k/{it.team.alice}/api/chat"))[1] == "alice, tenant physics, policy research"


async def test_explaining_a_name_or_claims_in_place_of_a_credential(everything: Everything) -> None:
    it = everything
    for name in ("alice", it.team.alice.split("_")[1]):
        assert (await explained(it, identity=name))[1] == "alice, tenant physics, policy research"
    assert (await explained(it, identity="erin"))[1] == "erin, tenant physics, policy research"
    assert (await explained(it, identity="nobody"))[:2] == ("refuse", "no key has that name")
    it.team.clock.advance(60)
    assert (await explained(it, identity="bob"))[:2] == ("refuse", "the API key has expired")
    assert (await explained(it, claims={"sub": "dave"}))[1] == "dave, tenant -, policy -"
    assert (await explained(it, claims={"other": "dave"}))[0] == "refuse"


async def test_explaining_a_name_that_several_keys_have(everything: Everything, tmp_path: Path) -> None:
    it = everything
    listed, valid = tmp_path / "authorized_keys", it.key.line
    over = f'tenant="gone",expiry-time="20200101" {OllamaKey(tmp_path, "erin").line}'
    for lines in ([over, valid], [valid, over]):
        listed.write_text("\n".join(lines))
        it.team.clock.advance(1)
        assert (await explained(it, identity="erin"))[:2] == ("pass", "erin, tenant -, policy -")
    listed.write_text(over)
    it.team.clock.advance(1)
    assert (await explained(it, identity="erin"))[:2] == ("refuse", "the key has expired")


async def test_explaining_asks_no_provider(everything: Everything) -> None:
    it = everything
    for headers in (bearer(it.jwt()), bearer("opaque")):
        await explained(it, headers=headers)
    assert not it.provider.asked
    exchange = make_exchange("HEAD", "/")
    assert (await it.auth.explain(exchange)).verdict == "skip"


async def test_a_fixed_policy_for_the_keys_of_a_file(team: Team, tmp_path: Path, need: Need) -> None:
    need("ssh-keygen", SSH_KEYGEN is not None)
    key = OllamaKey(tmp_path, "erin")
    listed = tmp_path / "authorized_keys"
    listed.write_text(key.line)
    options = OllamaKeysOptions.model_construct(file=listed, window=60.0, tenant="acme", policy="guests")
    auth = Auth(ok, clock=team.clock, policies=POLICIES, keepsakes=WeakKeepsakes(), ollama_keys=options)
    stamp = team.clock.time()
    headers = [("Authorization", key.authorization("POST", "/api/chat", stamp))]
    exchange = make_exchange(headers=headers, query=f"ts={int(stamp)}".encode())
    await call(auth, exchange)
    assert (exchange.identity, exchange.tenant, exchange.policy) == ("erin", "acme", "guests")


async def test_lifespan_events_pass() -> None:
    seen = []

    async def inner(scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # an ASGI app in one line
        seen.append(scope["type"])

    auth = Auth(inner, clock=ManualClock(), policies=POLICIES, keepsakes=WeakKeepsakes(), anonymous="guests")
    await auth({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # neither is used
    assert seen == ["lifespan"]


def test_auth_without_a_method_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Auth(ok, clock=ManualClock(), policies=POLICIES, keepsakes=WeakKeepsakes())


async def test_nothing_of_it_runs_per_chunk(team: Team) -> None:
    def auth(inner: ASGIApp) -> Auth:
        return Auth(inner, clock=team.clock, policies=POLICIES, keepsakes=WeakKeepsakes(), keys=team.file)

    assert await hands_send_on(auth, make_exchange(headers=bearer(team.alice)))


WRONG = "op_4fQn0ZrT7LkP_0123456789abcdef0123456789abcdef"


class Counted:
    """The service `Metrics`, as far as `auth` knows it."""

    def __init__(self) -> None:
        self.failures: Counter[tuple[str, str]] = Counter()

    def not_let_in(self, credential: str, reason: str) -> None:
        self.failures[credential, reason] += 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer be held back."""
    monkeypatch.setattr(failure_throttle, "SLOWED", 0.0)


def bounded(team: Team, metrics: Counted, failures: Failures = Rate.parse("3/minute")) -> Auth:  # noqa: B008
    return Auth(
        ok,
        clock=team.clock,
        policies=POLICIES,
        keepsakes=WeakKeepsakes(),
        keys=team.file,
        metrics=cast(Metrics, metrics),
        failures=failures,
        anonymous=None,
    )


async def answer_to(auth: Auth, key: str, client: str = "192.0.2.1") -> Answer:
    return await call(auth, make_exchange(headers=bearer(key), client=client))


@pytest.mark.usefixtures("at_once")
async def test_wrong_keys_are_counted_and_beyond_a_bound_told_to_wait(team: Team) -> None:
    metrics = Counted()
    auth = bounded(team, metrics)
    errors = [(await answer_to(auth, WRONG)).error for _ in range(5)]
    assert [error.status for error in errors if error is not None] == [401, 401, 401, 429, 429]
    assert errors[-1] is not None
    assert errors[-1].headers["retry-after"] == "20"
    assert metrics.failures == {("key", "unknown"): 3, ("key", "too_many"): 2}
    # a right one gets in from there, and a wrong one from elsewhere is a wrong one
    assert (await answer_to(auth, team.alice)).status == 200
    assert getattr((await answer_to(auth, WRONG, "192.0.2.2")).error, "status", 0) == 401
    team.clock.advance(20)
    assert getattr((await answer_to(auth, WRONG)).error, "status", 0) == 401


@pytest.mark.usefixtures("at_once")
async def test_the_bound_can_be_another_or_none(team: Team) -> None:
    for failures, allowed in ((DEFAULT, DEFAULT.amount), (Rate.parse("1/hour"), 1), ("off", 70)):
        auth = bounded(team, Counted(), failures)  # type: ignore[arg-type]  # of the types that it says
        statuses = [getattr((await answer_to(auth, WRONG)).error, "status", 0) for _ in range(70)]
        assert statuses.count(401) == allowed


@pytest.mark.usefixtures("at_once")
async def test_what_was_counted_outlives_a_reload(everything: Everything) -> None:
    it = everything
    for _ in range(DEFAULT.amount):
        assert (await it.asked(headers=bearer(WRONG)))[0] == 401
    before, it.auth = it.auth, it.loaded()
    assert (await it.asked(headers=bearer(WRONG)))[0] == 429
    del before


async def test_who_sends_nothing_is_not_held_to_be_wrong(team: Team) -> None:
    metrics = Counted()
    auth = bounded(team, metrics)
    for _ in range(10):
        assert getattr((await call(auth, make_exchange())).error, "status", 0) == 401
    assert metrics.failures == {("none", "missing"): 10}


async def test_an_answer_is_held_back_from_whoever_sends_too_many(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []

    async def sleep(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr("middleware.auth.failure_throttle.asyncio.sleep", sleep)
    auth = bounded(team, Counted())
    for _ in range(4):
        await answer_to(auth, WRONG)
    assert len(held) == 1
    assert 0.5 * failure_throttle.SLOWED <= held[0] <= 1.5 * failure_throttle.SLOWED
    monkeypatch.setattr(failure_throttle, "SLOWED_AT_ONCE", 0)  # as many as may be are held back already
    await answer_to(auth, WRONG)
    assert len(held) == 1


async def test_each_kind_and_reason_is_counted_as_such(everything: Everything) -> None:
    it = everything
    it.auth._throttle._metrics = counted = cast(Metrics, Counted())
    revoke_keys(it.team.file, "alice")
    it.team.clock.advance(1)
    used = it.signature()
    await it.asked(headers=[("Authorization", used)])
    cases = [
        (bearer(WRONG), ("key", "unknown")),
        (bearer(it.team.alice), ("key", "disabled")),
        (bearer(it.jwt(exp=1)), ("jwt", "expired")),
        (bearer(it.jwt(iss="https://evil.example")), ("jwt", "not_accepted")),
        (bearer(it.jwt()[:-8]), ("jwt", "unknown")),
        (bearer("a.b.c"), ("jwt", "malformed")),
        (bearer("invented"), ("opaque", "unknown")),
        ([("Authorization", used)], ("signature", "replayed")),
        ([("Authorization", "Negotiate YII=")], ("malformed", "malformed")),
        ([("Authorization", "Basic !")], ("malformed", "malformed")),
    ]
    for headers, expected in cases:
        counted.failures.clear()  # type: ignore[attr-defined]  # it is a Counted
        assert (await it.asked(headers=headers))[0] == 401
        assert list(counted.failures) == [expected]  # type: ignore[attr-defined]
    counted.failures.clear()  # type: ignore[attr-defined]
    await it.asked(peer={"subject": ()})
    assert list(counted.failures) == [("certificate", "unknown")]  # type: ignore[attr-defined]


async def test_a_clock_that_is_set_back_brings_no_key_back_to_life(team: Team) -> None:
    auth = team.auth()
    team.clock.set(team.clock.time() - 3600)
    team.clock.advance(60)
    refused = (await call(auth, make_exchange(headers=bearer(team.bob)))).error
    assert refused is not None
    assert "expired" in refused.message
