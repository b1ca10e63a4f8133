"""proxy/kernel/quota_key.py: who counts together, as a table, and that nobody else does."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel import quota_key
from proxy.kernel.exchange import Exchange
from proxy.kernel.quota_key import By, key_of
from proxy.testing import make_exchange, suppose

NAMES = st.text(max_size=12) | st.sampled_from(["", "@127.0.0.1", "a,tenant=b", "a/b", "{a}", "%41", "A", "é"])


def exchange(identity: str | None = None, tenant: str | None = None, client: str = "127.0.0.1") -> Exchange:
    made = make_exchange(body=b'{"model": " LLAMA3:Latest "}', client=client)
    suppose(made, identity=identity, tenant=tenant)
    return made


@pytest.mark.parametrize(
    ("by", "caller", "key"),
    [
        (("identity",), exchange("alice"), "identity=alice"),
        (("identity",), exchange(), "identity=@127.0.0.1"),
        (("identity",), exchange(client="2001:db8::7"), "identity=@2001:db8::/64"),
        (("tenant",), exchange("alice", "acme"), "tenant=acme"),
        (("tenant",), exchange("alice"), "tenant=@alice"),
        (("tenant",), exchange(), "tenant=@@127.0.0.1"),
        (("address",), exchange("alice"), "address=127.0.0.1"),
        (("tenant", "address"), exchange("alice", "acme"), "tenant=acme,address=127.0.0.1"),
        (("model",), exchange("alice"), "model=-"),
        (("identity",), exchange("a,tenant=b/c{d}"), "identity=a%2Ctenant%3Db%2Fc%7Bd%7D"),
    ],
)
def test_key(by: tuple[By, ...], caller: Exchange, key: str) -> None:
    assert key_of(by, caller) == key


@pytest.mark.parametrize(
    ("identity", "end_user", "key"),
    [
        ("webui", "ann@example.com", "end_user=webui/ann%40example.com"),
        ("webui", "a/b,c", "end_user=webui/a%2Fb%2Cc"),
        ("webui", None, "end_user=webui"),
        ("webui/ann", None, "end_user=webui%2Fann"),
        (None, None, "end_user=@127.0.0.1"),
    ],
)
def test_an_end_user_counts_within_its_caller(identity: str | None, end_user: str | None, key: str) -> None:
    assert key_of(("end_user",), suppose(exchange(identity), end_user=end_user)) == key


@pytest.mark.parametrize("name", [" LLAMA3:Latest ", "llama3:latest-ctx32k-by-proxy"])
async def test_a_model_counts_as_one_however_it_is_written(name: str) -> None:
    made = make_exchange(body=orjson.dumps({"model": name}))
    await made.body()
    assert key_of(("model",), made) == "model=registry.ollama.ai/library/llama3:latest"


@given(NAMES, NAMES, NAMES, NAMES)
def test_only_the_same_caller_has_the_same_key(a: str, b: str, c: str, d: str) -> None:
    by: tuple[By, ...] = ("identity", "tenant")
    same = (a or None, b or None) == (c or None, d or None)
    assert (key_of(by, exchange(a, b)) == key_of(by, exchange(c, d))) == same


def test_what_is_no_unicode_is_no_crash() -> None:
    assert key_of(("identity",), exchange("\ud800")) != key_of(("identity",), exchange("\udfff"))


def test_a_long_identity_is_spelled_and_not_remembered() -> None:
    kept = quota_key._quoted.cache_info().currsize
    assert quota_key._safe("/" * 5000) == "%2F" * 5000
    assert quota_key._quoted.cache_info().currsize == kept
