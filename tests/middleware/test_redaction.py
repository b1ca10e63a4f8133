"""What is masked, and that no text makes it slow."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.redaction import MASK, Kind, Redaction

EVERYTHING: list[Kind] = ["keys", "emails", "numbers", "addresses"]
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLWhlcmU"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n/x+y\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("keys", "sk-proj-abcdefghijkl"),
        ("keys", "op_4fQn0ZrT7LkP_xyz"),
        ("keys", "ghp_0123456789abcdef"),
        ("keys", "AKIAIOSFODNN7EXAMPLE"),
        ("keys", JWT),
        ("keys", PEM),
        ("keys", "Bearer abc.def-ghi"),
        ("keys", "password: hunter2!"),
        ("keys", "API_KEY=xyz"),
        ("keys", "d41d8cd98f00b204e9800998ecf8427e"),
        ("emails", "alice.b+c@mail.example.com"),
        ("numbers", "4111 1111 1111 1111"),
        ("numbers", "+49 (0)30 1234567"),
        ("numbers", "1234567"),
        ("addresses", "192.168.0.17"),
        ("addresses", "2001:db8::8a2e:370:7334"),
    ],
)
def test_masked(kind: Kind, text: str) -> None:
    masked = Redaction([kind]).first(f"before {text} behind", 1000)
    assert masked == f"before {MASK} behind"


@pytest.mark.parametrize(
    "text",
    [
        "Why is the sky blue?",
        "In 2024 there were 1,234 of 56.7 %",
        "version 1.2.3 of llama3.2:latest",
        "a::b in C++, 12:30:59",
        "ein sehr langes Wort: Donaudampfschifffahrtsgesellschaft",
        "这是一个没有空格的很长的句子里面有数字3但它不是一个密钥而是一个普通的句子所以不应该被遮盖掉",
        "tell me about the @property decorator",
    ],
)
def test_left_alone(text: str) -> None:
    assert Redaction(EVERYTHING).first(text, 1000) == text


def test_only_what_was_asked_for() -> None:
    assert Redaction(["emails"]).first("a@b.de 1234567", 100) == f"{MASK} 1234567"
    assert Redaction([]).first("a@b.de", 100) == "a@b.de"


@pytest.mark.parametrize(
    ("shape", "text", "masked"),
    [
        ("EMP-####", "see emp-1234, EMP-12345 and XEMP-1234", f"see {MASK}, EMP-12345 and XEMP-1234"),
        ("M??-###", "plate MAB-123 here", f"plate {MASK} here"),
        ("P??", "PAB PA1", f"{MASK} PA1"),
        ("(x)+", "(x)+ (x)(x)", f"{MASK} (x)(x)"),
    ],
)
def test_shapes(shape: str, text: str, masked: str) -> None:
    assert Redaction([], [shape]).first(text, 1000) == masked


@pytest.mark.parametrize("shape", ["", "####", "?? ##"])
def test_a_shape_of_nothing_is_refused(shape: str) -> None:
    with pytest.raises(ValueError, match="mask almost everything"):
        Redaction([], [shape])


def test_what_a_cut_goes_through_is_masked_whole() -> None:
    redaction = Redaction(EVERYTHING)
    assert redaction.first("say alice@example.com", 9) == f"say {MASK}"
    assert redaction.last("say alice@example.com now", 8) == f"{MASK} now"
    assert redaction.first("plain text", 5) == "plain"
    assert redaction.last("plain text", 4) == "text"
    assert redaction.last("short", 100) == "short"


@given(st.text(max_size=300), st.integers(0, 300))
def test_never_more_than_there_is(text: str, limit: int) -> None:
    redaction = Redaction(EVERYTHING)
    plain = Redaction([])
    assert plain.first(text, limit) == text[:limit]
    assert plain.last(text, limit) == text[len(text) - min(limit, len(text)) :]
    assert len(redaction.first(text, limit)) <= limit + len(MASK)


BITS = (
    "a",
    "1",
    "1 ",
    "a.",
    "a@",
    "1.1.",
    ":1",
    "-",
    "eyJ",
    "-----BEGIN KEY-----",
    "bearer ",
    "password:",
    "sk-",
    "a+b-",
)


@pytest.mark.parametrize("text", [bit * (9216 // len(bit)) for bit in BITS], ids=BITS)
def test_no_text_makes_it_slow(text: str) -> None:
    """A text at the bound, twice as long, must not take more than some times as long."""
    redaction = Redaction(EVERYTHING, ["EMP-####", "a#a#a#"])

    def seconds(text: str) -> float:
        best = 1.0
        for _ in range(3):
            began = time.process_time()
            redaction.first(text, len(text))
            best = min(best, time.process_time() - began)
        return best

    assert seconds(text * 2) < 8 * seconds(text) + 0.005
