import ssl

import pytest

from middleware.auth.fetch import MAX_BYTES, FetchError
from middleware.auth.introspection_client import IntrospectionClient
from tests.support.provider import http, provider


def client() -> IntrospectionClient:
    tls = ssl.create_default_context()
    return IntrospectionClient(client_id="a:b", client_secret="c d", client_auth="client_secret_basic", tls=tls)


async def test_the_answer_is_handed_over_as_it_came() -> None:
    async with provider() as it:
        it.answers["/introspect"] = http(200, {"active": True})
        assert await client().ask(it.url + "/introspect", "token") == b'{"active":true}'


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http(500), "answered 500"),
        (http(302, None, location="/introspect"), "answered 302"),
        (http(200, "x" * MAX_BYTES), "longer than"),
        (b"hello\r\n\r\n", "."),
        (b"", "."),
    ],
)
async def test_every_failure_is_one_kind_of_error(answer: bytes, problem: str) -> None:
    async with provider() as it:
        it.answers["/introspect"] = answer
        with pytest.raises(FetchError, match=problem):
            await client().ask(it.url + "/introspect", "token")
        assert it.asked["/introspect"] == 1
    with pytest.raises(FetchError):
        await client().ask(it.url + "/introspect", "token")
