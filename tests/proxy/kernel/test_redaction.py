"""What is masked, and that no text makes it slow."""

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.kernel.redaction import MASK, Kind, Redaction
from tests.support.cost import assert_flat

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
        ("keys", f"{JWT}-{JWT}"),
        ("keys", PEM),
        ("keys", "Bearer abc.def-ghi"),
        ("keys", "Bearer Bearer abc.def-ghi"),
        ("keys", "password: hunter2!"),
        ("keys", "secret: password: hunter2"),
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


@pytest.mark.parametrize(
    "name",
    [
        # models
        *("llama3.2:latest", "openthinker-32b-preview", "opencoder-instruct:8b", "skyfall-36b-instruct"),
        *("openhermes-2.5-mistral-7b", "openchat-3.6-8b-20240522", "opus-mt-translation-2", "pkuseg-v2-chinese-base"),
        *(
            "ghost-8b-beta-1608",
            "ghostwriter-13b-v2-instruct",
            "hfdemo-classifier-v2",
            "hf-internal-testing/tiny-llama",
        ),
        *("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "gpt-oss:120b", "qwen2.5-coder:32b-instruct-q4_K_M"),
        *("skywork-or1-32b-preview", "deepseek-r1:671b", "mistral-small3.2:24b-instruct-2506-q8_0"),
        # agents
        *("open-webui-backend/0.6", "operations-agent/1.0", "openai-python/1.99.9", "openinterpreter-client/0.4.3"),
        *("skaffold-controller/2.13", "ollama-python/0.6.2 (x86_64 linux) Python/3.11.7", "python-httpx/0.28.1"),
        *("okhttp/4.12.0", "Go-http-client/1.1", "opentelemetry-collector/0.104", "xoxnetwork-client/3.0"),
    ],
)
def test_ordinary_names_stay(name: str) -> None:
    assert Redaction(["keys"]).first(name, 1000) == name


@pytest.mark.parametrize(
    "key",
    [
        *("sk-proj-abcdefghijkl", "sk-ant-api03-" + "aB3" * 30, "sk_live_" + "a1B2" * 6, "pk-lf-" + "1a2b" * 8),
        *("op_4fQn0ZrT7LkP_xyz", "hf_" + "AbCdEfGhIj" * 3, "ghp_" + "a1" * 18, "gho_" + "1a" * 18, "ghs_" + "Zz9" * 12),
        *("xoxb-123456789012-1234567890123-abcdef", "xoxp-12345678901-abc", "AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_keys_are_masked_by_what_they_begin_with(key: str) -> None:
    assert Redaction(["keys"]).first(f"a {key}, b", 1000) == f"a {MASK}, b"


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
    "a", "1", "1 ", "a.", "a@", "1.1.", ":1", "-", "eyJ", "eyJ-", "eyJ-eyJ-", "eyJaaaaaa.", "eyJaaaaaa.b",
    "-----BEGIN ", "-----BEGIN KEY-----", "-----BEGIN KEY-----x", "bearer ", "bearer  ", "password", "password:",
    "password : ", "pwd ", "sk", "sk-", "pk-a", "gho_", "AKIA", "hf_a", "a+b-", "a/b=", "+", "=", "a@a", "a@a-", "a@a.",
    "a.b+", "1(",
    "1()", "+1 ", "::", "f:", "0:0", "1.", "255.", "api_key", "token=", "é", "aé", " ", "\n", '"', "emp-", "a1a1a",
)  # fmt: skip
"""What patterns begin with, and what almost goes on as they do."""


@pytest.mark.parametrize("bit", BITS)
def test_a_character_costs_the_same_in_a_longer_text(bit: str) -> None:
    redaction = Redaction(EVERYTHING, ["EMP-####", "a#a#a#"])
    assert_flat(lambda text: redaction.first(text, len(text)), lambda size: (bit * size)[:size], 4096)


def test_no_text_costs_more_than_others() -> None:
    """A text is slow to look through by its own kind, too: 64 KiB of ``eyJ-`` took as long as 4 MiB of words."""
    redaction = Redaction(EVERYTHING)

    def cost(text: str) -> float:
        return min(timed(lambda: redaction.first(text, len(text))) for _ in range(3))

    for _ in range(4):
        words = cost("why is the sky blue? " * 1000)
        dear = [bit for bit in BITS if cost((bit * 21_000)[:21_000]) > 10 * words]
        if not dear:
            return
    raise AssertionError(f"these take more than ten times as long as words: {dear}")


def timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


BEFORE: dict[Kind, str] = {
    "keys": (
        r"-----BEGIN [A-Z ]{0,40}KEY-----[^-]{0,8192}(?:-----END [A-Z ]{0,40}KEY-----)?"
        r"|\beyJ[\w-]{5,4096}\.[\w-]{5,8192}(?:\.[\w-]{0,2048})?"
        r"|(?i:\b(?:bearer|basic)\s{1,4})[\w.~+/=-]{6,4096}"
        r"|(?i:\b(?:password|passwd|pwd|secret|token|api[ _-]?key)\b[\"']?\s{0,4}[:=]\s{0,4})[^\s\"',;]{1,256}"
        r"|\b(?:(?:sk|pk|op)[-_]|hf_|(?:gh[opsu]_|xox[abp]-|AKIA)(?=[A-Za-z_-]{0,255}\d))[\w-]{12,256}"
        r"|\b(?=[\w+/=-]{0,64}\d)[\w+/=-]{32,4096}"
    ),
    "emails": r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}",
}
"""Patterns that say the same and are slow."""


def masked_by(redaction: Redaction, text: str) -> set[int]:
    """Where `text` is masked: every character apart from those that come out whatever is before and behind them."""
    return {at for find in redaction._finders for begins, ends in find(text) for at in range(begins, ends)}


@given(st.lists(st.sampled_from(BITS) | st.text("aB9_+/=.-: ", max_size=70), max_size=12).map("".join))
@example("word-" * 20 + "a" * 40 + "1" + "-b2" * 12)
@example("eyJhbGci.eyJabcd-eyJzdWIi.eyJ")
@example("=" * 70 + "1" * 40)
@example("-----BEGIN KEY-----bearer a+b-bearer eyJ-eyJ-")
@example("-----BEGIN KEY-----eyJaaaaa.bbbbb.c-eyJddddd.eeeee")
def test_what_the_slow_patterns_found_is_masked(text: str) -> None:
    for kind, pattern in BEFORE.items():
        found = {at for match in re.finditer(pattern, text, re.ASCII) for at in range(*match.span())}
        assert found <= masked_by(Redaction([kind]), text)


@given(st.lists(st.sampled_from([*BITS, JWT, PEM, "a@b.de", "4111 1111 1111 1111", "192.168.0.17"])).map("".join))
def test_what_is_masked_does_not_come_out(text: str) -> None:
    redaction = Redaction(EVERYTHING)
    hidden = masked_by(redaction, text)
    shown = redaction._between(text, 0, len(text))
    assert shown.replace(MASK, "") == "".join(char for at, char in enumerate(text) if at not in hidden)
    again = redaction.first(text, len(text))
    assert again == redaction.first(again, len(again))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+49 30 12345672001:db8::8a2e:370:7334", f"{MASK}{MASK}"),
        (" 1.1.1.12001:db8::8a2e:370:7334.", f" {MASK}{MASK}."),
        ("@19.a@b.de2001:db8::8a2e:370:7334", f"@{MASK}{MASK}"),
        ("EMP-12342001:db8::8a2e:370:7334 x", f"EMP-{MASK}{MASK} x"),
    ],
)
def test_nothing_that_can_be_told_is_left_beside_a_mask(text: str, shown: str) -> None:
    redaction = Redaction(EVERYTHING)
    assert redaction.first(text, 100) == redaction.last(text, 100) == redaction.first(shown, 100) == shown


def test_a_shape_that_a_mask_has_ends() -> None:
    assert Redaction([], ["*"]).first("a * b", 100) == f"a {MASK} b"
