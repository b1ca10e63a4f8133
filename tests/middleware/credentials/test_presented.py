from base64 import b64encode

import pytest

from middleware.credentials.presented import LONGEST, NOTHING, Presented, presented
from proxy.errors import Refused

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
