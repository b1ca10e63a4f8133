"""proxy/kernel/model_names.py."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.kernel import model_names
from proxy.kernel.model_names import ModelName, parse
from proxy.simulator import model_names as reference

LIBRARY = "registry.ollama.ai/library"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("llama3", f"{LIBRARY}/llama3:latest"),
        (" LLAMA3:Latest ", f"{LIBRARY}/llama3:latest"),
        ("\u00a0llama3\u2003", f"{LIBRARY}/llama3:latest"),
        ("library/llama3", f"{LIBRARY}/llama3:latest"),
        ("x://registry.ollama.ai/library/llama3:latest", f"{LIBRARY}/llama3:latest"),
        ("REGISTRY.OLLAMA.AI/Library/llama3", f"{LIBRARY}/llama3:latest"),
        ("llama3:local", f"{LIBRARY}/llama3:latest"),
        ("llama3:8b:local", f"{LIBRARY}/llama3:8b"),
        ("llama3:cloud", f"{LIBRARY}/llama3:latest@cloud"),
        ("llama3: CLOUD ", f"{LIBRARY}/llama3:latest@cloud"),
        ("gpt-oss:120b-cloud", f"{LIBRARY}/gpt-oss:120b@cloud"),
        ("gpt-oss:120b:cloud", f"{LIBRARY}/gpt-oss:120b@cloud"),
        ("gpt-oss-cloud", f"{LIBRARY}/gpt-oss-cloud:latest"),
        ("alice/qwen", "registry.ollama.ai/alice/qwen:latest"),
        ("hf.co/bartowski/Llama-3.2-1B:Q4_K_M", "hf.co/bartowski/llama-3.2-1b:q4_k_m"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("http://localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("x:///a/b", "registry.ollama.ai/a/b:latest"),
        ("_x", f"{LIBRARY}/_x:latest"),
        ("a" * 80, f"{LIBRARY}/{'a' * 80}:latest"),
    ],
)
def test_one_model_has_one_key(text: str, key: str) -> None:
    name = parse(text)
    assert name is not None
    assert name.key == key
    assert name.cloud == key.endswith("@cloud")
    assert name.foreign == (not key.startswith("registry.ollama.ai/"))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "/", "/llama3", "//llama3", "llama3/", "a//b", "/a/b", ":", "llama3:", ":latest", "llama3::b"),
        *("llama3:local:cloud", "llama3:a-cloud:cloud", "llama3 :cloud", "lla ma3", "llama3:a b", ".x", "-x", "a/.x"),
        *("a.b/c", "a/b/c/d", "h/a.b/c", "llama3@sha256:00", "llama3+q4", "llama3\n4", "ll\u0430ma3", "\x1cllama3"),
        *("a" * 81, f"x:{'a' * 81}", "a" * 2000, "h" * 351 + "/a/b", "http://llama3", "x:/a"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    assert parse(text) is None


PIECES = ["llama3", "a", ":", "/", "//", "://", "x", ".", "8B", "cloud", "-cloud", "local", "Local", " "]


def test_what_is_too_long_for_a_name_is_not_kept_in_memory() -> None:
    before = model_names._parse.cache_info().currsize
    assert parse("a" * 10**6) is None
    assert model_names._parse.cache_info().currsize == before


@given(st.text("aZ09_.-:/ @~é", max_size=12) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example("a:cloud-cloud")
@example("x:///a/b")
def test_reads_names_as_ollama_does(text: str) -> None:
    found = parse(text)
    try:
        expected = reference.parse(text)
    except reference.BadName:
        assert found is None
    else:
        assert found is not None
        assert (found.key.removesuffix("@cloud"), found.cloud) == (expected.key, expected.source == "cloud")


@given(st.from_regex(r"([a-z]{2}\.co/[a-z]/|[a-z]/)?[A-Z0-9]{1,4}(:[a-z0-9]{1,4}(-cloud)?)?(:local)?", fullmatch=True))
def test_its_own_spellings_mean_the_same_model(text: str) -> None:
    name = parse(text)
    if name is not None:
        assert parse(name.full) == parse(name.short) == name


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("llama3", f"{LIBRARY}/llama3:latest", "llama3:latest"),
        ("Alice/Qwen:8B", "registry.ollama.ai/alice/qwen:8b", "alice/qwen:8b"),
        ("hf.co/a/b", "hf.co/a/b:latest", "hf.co/a/b:latest"),
        ("hf.co/library/b", "hf.co/library/b:latest", "hf.co/library/b:latest"),
        ("gpt-oss:120b-cloud", f"{LIBRARY}/gpt-oss:120b-cloud", "gpt-oss:120b-cloud"),
        ("qwen3:cloud", f"{LIBRARY}/qwen3:cloud", "qwen3:cloud"),
    ],
)
def test_spellings(text: str, full: str, short: str) -> None:
    name = parse(text)
    assert isinstance(name, ModelName)
    assert (name.full, name.short) == (full, short)
