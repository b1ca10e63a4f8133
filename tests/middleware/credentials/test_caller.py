import re

from middleware.credentials.caller import insufficient_scope, unauthorized, unavailable

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
