"""Masking: a secret of each known kind is gone from what is logged, wherever it stands."""

import re
from typing import Final

from proxy.kernel.caller_text import masked_path
from proxy.kernel.redaction import MASK, Redaction
from tests.fuzz.cuts import dice

CANARIES: Final = {
    "keys": (
        "op_4fQn0ZrT7LkP_0123456789abcdef0123456789ABCDEF",
        "sk-proj-abcdefghijkl0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJlc2lnbmF0dXJl",
        "ghp_0123456789abcdef0123456789abcdef0123",
    ),
    "emails": ("alice.b@mail.example.com",),
    "numbers": ("4111111111111111",),
    "addresses": ("192.168.17.250",),
}
EVERYTHING: Final = Redaction(("keys", "emails", "numbers", "addresses"), ["EMP-####"])

TOKENS = (
    b"Bearer ",
    b"password: ",
    b"api_key=",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"-----END RSA PRIVATE KEY-----",
    b"eyJ",
    b"eyJhbGciOiJIUzI1NiJ9.",
    b"sk-",
    b"op_",
    b"AKIA",
    b"@",
    b"a@b.de",
    b"1.1.1.1",
    b"::1",
    b"2001:db8::8a2e:370:7334",
    b"+49 30 1234567",
    b"EMP-1234",
    b"***",
    b"0123456789",
    b".",
    b"-",
    b"_",
    b"/",
    b"=",
    b"+",
    b" ",
    b"\n",
    b'"',
    b",",
    "ä".encode(),
    "\u0660".encode(),
)


def check(data: bytes) -> None:
    """Raise where a secret between two pieces of the text, apart from them, is not masked."""
    text = data.decode("utf-8", "replace")
    numbers = dice(data)
    for kind, canaries in CANARIES.items():
        canary = numbers.choice(canaries)
        if canary in text:  # as a part of something longer, perhaps, which is no secret of its kind
            continue
        at = numbers.randint(0, len(text))
        whole = f"{text[:at]} {canary} {text[at:]}"
        for shown in (EVERYTHING.first(whole, len(whole)), Redaction([kind]).last(whole, len(whole))):  # type: ignore[list-item]
            assert canary not in shown, f"{canary} stands in {shown!r}"
    limit = numbers.randint(0, len(text) + 1)
    assert len(EVERYTHING.first(text, limit)) <= limit + len(MASK)
    shown = EVERYTHING.first(text, len(text))
    assert EVERYTHING.first(shown, len(shown)) == shown, f"masked again, {shown!r} has something to mask"
    path = masked_path("/" + text)
    assert len(path) <= 256
    assert masked_path(path) == path or path.endswith("…"), f"masked again, {path!r} is {masked_path(path)!r}"
    key = CANARIES["keys"][0]
    assert not re.search(re.escape(key[4:]), masked_path(f"/{text}/{key}/{text}")), "a key stays in a path"
