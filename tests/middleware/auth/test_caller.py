import re

from middleware.auth.caller import again, forbidden, insufficient_scope, too_many, unauthorized, unavailable
from proxy.kernel import error_codes as codes

CHALLENGE = re.compile(r'Bearer realm="[^"]+"(, [a-z_]+="[\x20\x21\x23-\x5b\x5d-\x7e]*")*')  # RFC 6750, section 3


def test_a_challenge_without_credentials_has_no_error_code() -> None:
    refused = unauthorized("a key is required", error=None)
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="ollama-proxy"'


def test_a_challenge_is_well_formed_whatever_the_text() -> None:
    challenge = unauthorized('say "please" \\ now').headers["www-authenticate"]
    assert CHALLENGE.fullmatch(challenge)
    assert 'error="invalid_token"' in challenge


def test_a_missing_scope_is_named() -> None:
    refused = insufficient_scope("chat embed")
    assert refused.status == 403
    assert CHALLENGE.fullmatch(refused.headers["www-authenticate"])
    assert 'error="insufficient_scope", scope="chat embed"' in refused.headers["www-authenticate"]


def test_who_cannot_be_checked_is_told_when_to_come_again() -> None:
    refused = unavailable("later", retry_after=0.2)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")


def test_each_says_why() -> None:
    refusals = [
        unauthorized("no"),
        unauthorized("no", reason="missing"),
        insufficient_scope("chat"),
        forbidden("no", code=codes.NO_POLICY),
        unavailable("later", retry_after=1),
        too_many("later", retry_after=19.01),
    ]
    assert [(refused.status, refused.reason) for refused in refusals] == [
        (401, "unknown"),
        (401, "missing"),
        (403, "forbidden"),
        (403, "forbidden"),
        (503, "unavailable"),
        (429, "too_many"),
    ]
    assert refusals[-1].headers["retry-after"] == "20"
    for refused in refusals:
        copy = again(refused)
        assert copy is not refused
        assert (copy.status, copy.message, copy.code, copy.headers, copy.reason) == (
            refused.status,
            refused.message,
            refused.code,
            refused.headers,
            refused.reason,
        )
