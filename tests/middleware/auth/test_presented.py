from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.auth.presented import LONGEST, NOTHING, Presented, presented
from proxy.kernel.errors import Refused

KEY = "op_4fQn0ZrT7LkP_0123456789abcdef0123456789abcdef"
SIGNATURE = "AAAAC3NzaC1lZDI1NTE5AAAAIA==:c2lnbmF0dXJl"


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


def headers(*pairs: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


@pytest.mark.parametrize(
    ("pairs", "path_token", "found"),
    [
        ([], None, NOTHING),
        ([("authorization", f"Bearer {KEY}")], None, Presented(KEY)),
        ([("authorization", f"bearer   {KEY} ")], None, Presented(KEY)),
        ([("x-api-key", KEY)], None, Presented(KEY)),
        ([("authorization", basic(f"anybody:{KEY}"))], None, Presented(KEY)),
        ([("authorization", basic(f"{KEY}:"))], None, Presented(KEY)),
        ([("authorization", basic(KEY))], None, Presented(KEY)),
        ([("authorization", SIGNATURE)], None, Presented(signature=SIGNATURE)),
        ([], KEY, Presented(KEY)),
        ([("authorization", "Bearer ollama")], None, NOTHING),
        ([("x-api-key", "ollama")], None, NOTHING),
        ([("authorization", "Bearer ollama")], KEY, Presented(KEY)),
        ([("authorization", "Bearer ollama"), ("x-api-key", KEY)], None, Presented(KEY)),
        ([("authorization", "")], None, NOTHING),
        ([("authorization", "Bearer")], None, NOTHING),
        ([("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)], KEY, Presented(KEY)),
        ([("x-api-key", "ollama"), ("authorization", SIGNATURE)], None, Presented(signature=SIGNATURE)),
        ([("cookie", f"key={KEY}"), ("x-goog-api-key", KEY)], None, NOTHING),
    ],
)
def test_where_a_credential_may_stand(pairs: list[tuple[str, str]], path_token: str | None, found: Presented) -> None:
    assert presented(headers(*pairs), path_token) == found


@pytest.mark.parametrize(
    ("pairs", "path_token"),
    [
        ([("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")], None),
        ([("authorization", "Bearer ollama"), ("authorization", f"Bearer {KEY}")], None),
        ([("x-api-key", KEY), ("x-api-key", KEY)], None),
        ([("authorization", f"Bearer {KEY}"), ("x-api-key", "another")], None),
        ([("authorization", f"Bearer {KEY}")], "another"),
        ([("authorization", SIGNATURE), ("x-api-key", KEY)], None),
        ([("authorization", SIGNATURE)], KEY),
    ],
)
def test_several_credentials_are_a_bad_request(pairs: list[tuple[str, str]], path_token: str | None) -> None:
    with pytest.raises(Refused) as refused:
        presented(headers(*pairs), path_token)
    assert refused.value.status == 400
    assert KEY not in refused.value.message


@pytest.mark.parametrize(
    "value",
    [
        "Negotiate YII=",
        "DPoP abc",
        KEY,
        "Bearer a b",
        "Bearer a,b",
        "Bearer \x00",
        "Bearer caf\xe9",
        "Basic caf\xe9",
        "Basic \xff\xfe",
        "Basic YWxpY2U6a2V5\xa0=",
        "\xe9:\xe9",
        "Bearer ===",
        "Basic !!!",
        "Basic " + b64encode(b"\xff:\xff").decode(),
        basic("user:with space"),
        "Bearer " + "a" * (LONGEST + 1),
        "A" * LONGEST + ":" + "A" * LONGEST,
        f"Bearer {SIGNATURE}",
    ],
)
def test_a_credential_that_is_not_well_formed_is_refused(value: str) -> None:
    with pytest.raises(Refused) as refused:
        presented(headers(("authorization", value)))
    assert refused.value.status == 401
    assert refused.value.headers["www-authenticate"].startswith('Bearer realm="ollama-proxy", error="invalid_')


SCHEMES = st.sampled_from([b"", b"Bearer ", b"Basic ", b"basic\t", b"Negotiate "])
VALUES = st.one_of(st.none(), st.builds(bytes.__add__, SCHEMES, st.binary(max_size=60)))


@given(authorization=VALUES, api_key=VALUES, path_token=st.one_of(st.none(), st.text(max_size=20)))
def test_whatever_bytes_come_it_is_a_credential_or_a_refusal(
    authorization: bytes | None, api_key: bytes | None, path_token: str | None
) -> None:
    pairs = [(b"authorization", authorization), (b"x-api-key", api_key)]
    with suppress(Refused):
        found = presented([(name, value) for name, value in pairs if value is not None], path_token)
        assert found.token is None or (found.token.isascii() and len(found.token) <= LONGEST)


@pytest.mark.parametrize("size", [2 * LONGEST + 1, 8 * LONGEST])
def test_nothing_is_made_of_what_is_too_long(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b64decode", "_SIGNATURE", "_TOKEN"):
        monkeypatch.setattr(f"middleware.auth.presented.{name}", None)
    for pairs, token in ((("authorization", "Basic " + "A" * size), None), (("x-api-key", "A" * size), "A" * size)):
        with pytest.raises(Refused) as refused:
            presented(headers(pairs), token)
        assert refused.value.status == 401
