"""Single sign-on end to end: log in at a certified provider, get a token, stream a chat with it through the proxy."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.identity_provider import INSTALLED, IdentityProvider, signing_key
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, ask, request

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def identity(need: Need) -> AsyncIterator[IdentityProvider]:
    need("the npm packages of tests/live/idp", INSTALLED)
    provider = IdentityProvider()
    try:
        await provider.start([signing_key("one")])
        yield provider
    finally:
        await provider.stop()


@pytest.fixture
async def sim() -> AsyncIterator[Ollama]:
    async with Ollama(num_parallel=4) as sim:
        yield sim


def proxied(sim: Ollama, **auth: Any) -> AbstractAsyncContextManager[Running]:
    return running(sim.url, middleware=["logging", {"auth": auth}, "retry"], policies={"research": {}})


def jwt(identity: IdentityProvider, **options: Any) -> dict[str, Any]:
    mapped = {"tenant": "org", "policy": "realm_access.roles", "scopes": ["chat"]}
    return {"issuer": identity.issuer, "audience": "ollama", "cool_down": "1ms", **mapped, **options}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def chat(proxy: Running, token: str, **body: object) -> Reply:
    return await ask(proxy.address, "POST", "/api/chat", CHAT | body, bearer(token))


def chats(sim: Ollama) -> int:
    """How many chats the backend was asked for; the proxy's own questions about its health are none."""
    return sum(request.route == "/api/chat" for request in sim.requests)


async def test_from_the_login_to_the_streamed_chat(identity: IdentityProvider, sim: Ollama) -> None:
    async with proxied(sim, jwt=jwt(identity)) as proxy:
        token = await identity.log_in("alice")
        reply = await chat(proxy, token)
        assert reply.status == 200
        assert reply.clean
        assert len(reply.chunks) > 10
        assert b'"done":true' in reply.chunks[-1]
        line = await proxy.log.request()
        assert (line["identity"], line["tenant"], line["policy"]) == ("alice", "physics", "research")
        assert all(token.encode() not in raw for raw in proxy.log.raw)
        assert all("authorization" not in str(request.headers).lower() for request in sim.requests)


async def test_every_api_takes_the_token_in_its_own_header(identity: IdentityProvider, sim: Ollama) -> None:
    async with proxied(sim, jwt=jwt(identity), path_token=True) as proxy:
        token = await identity.log_in("alice")
        body = CHAT | {"max_tokens": 5}
        openai = await ask(proxy.address, "POST", "/v1/chat/completions", body, bearer(token))
        anthropic = await ask(proxy.address, "POST", "/v1/messages", body, {"x-api-key": token})
        path = await ask(proxy.address, "POST", f"/k/{token}/api/chat", body)
        assert [openai.status, anthropic.status, path.status] == [200, 200, 200]
        await proxy.log.request(3)
        assert all(token.encode() not in raw for raw in proxy.log.raw)


async def test_keys_rotate_while_a_stream_runs(identity: IdentityProvider, sim: Ollama) -> None:
    one, two = signing_key("one"), signing_key("two")
    await identity.stop()
    await identity.start([one])
    async with proxied(sim, jwt=jwt(identity)) as proxy:
        old = await identity.log_in("alice")
        stalled = sim.fault("stall", route="/api/chat", after=2)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT, bearer(old)))
        assert (await client.read_head()).status == 200
        first = await client.read_chunk()

        await identity.stop()
        await identity.start([two, one])
        new = await identity.log_in("bob")
        assert (await chat(proxy, new)).status == 200  # the new key was fetched for it
        assert (await chat(proxy, old)).status == 200  # the old one is still published

        stalled.release()
        rest = b""
        while chunk := await client.read_chunk():
            rest += chunk
        assert b'"done":true' in rest
        assert b'"done":false' in first
        await client.close()
        line = await proxy.log.request(3)
        assert (line["identity"], line["outcome"]) == ("alice", "completed")


async def test_a_withdrawn_key_opens_nothing_new(identity: IdentityProvider, sim: Ollama) -> None:
    before = await identity.log_in("alice")
    await identity.stop()
    await identity.start([signing_key("two")])
    async with proxied(sim, jwt=jwt(identity)) as proxy:
        assert (await chat(proxy, before)).status == 401
        assert (await chat(proxy, await identity.log_in("alice"))).status == 200


async def test_the_provider_is_down(identity: IdentityProvider, sim: Ollama) -> None:
    async with proxied(sim, jwt=jwt(identity)) as warm, proxied(sim, jwt=jwt(identity)) as cold:
        first, second = await identity.log_in("alice"), await identity.log_in("bob")
        assert (await chat(warm, first)).status == 200
        await identity.stop()
        assert (await chat(warm, first)).status == 200
        assert (await chat(warm, second)).status == 200  # never seen, but the last good keys are there
        warm.app.reload(warm.app.plan.loaded)
        assert (await chat(warm, first)).status == 200  # a new policy file finds them, too
        refused = await chat(cold, first)  # never had any keys
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert chats(sim) == 4


async def test_tokens_that_are_not_meant_for_the_proxy(identity: IdentityProvider, sim: Ollama) -> None:
    token = await identity.log_in("alice")
    tampered = token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")
    async with (
        proxied(sim, jwt=jwt(identity, audience="another")) as other_audience,
        proxied(sim, jwt=jwt(identity, scopes=["admin"])) as other_scope,
        proxied(sim, jwt=jwt(identity, policies={"boss": "research"})) as other_role,
        proxied(sim, jwt=jwt(identity, algorithms=["ES256"])) as other_algorithm,
        proxied(sim, jwt=jwt(identity)) as proxy,
    ):
        assert (await chat(other_audience, token)).status == 401
        assert (await chat(other_scope, token)).status == 403
        assert (await chat(other_role, token)).status == 403
        assert (await chat(other_algorithm, token)).status == 401
        assert (await chat(proxy, tampered)).status == 401
        assert chats(sim) == 0
        assert (await chat(proxy, token)).status == 200


async def test_opaque_tokens_are_introspected(identity: IdentityProvider, sim: Ollama) -> None:
    introspection = {
        "url": f"{identity.issuer}/token/introspection",
        "client_id": "proxy",
        "client_secret": identity.secret,
        "issuer": identity.issuer,
        "audience": "ollama",
        "scopes": ["chat"],
        "cache": "1ms",
    }
    async with proxied(sim, introspection=introspection) as proxy:
        token = await identity.log_in("alice", "opaque")
        assert "." not in token
        assert (await chat(proxy, token)).status == 200
        assert (await proxy.log.request())["identity"] == "alice"
        await identity.revoke(token)
        refused = await chat(proxy, token)
        assert refused.status == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        await identity.stop()
        assert (await chat(proxy, "unseen-token")).status == 503
        assert chats(sim) == 1
