"""middleware/access/model_globs.py."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.access.model_globs import ModelGlobs, canonical
from proxy.kernel.model_names import ModelName
from proxy.kernel.model_names import parse as parse_model


def name(text: str) -> ModelName:
    found = parse_model(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("llama3.2", ["llama3.2", "LLAMA3.2:latest", "library/llama3.2", "llama3.2:local"], ["llama3.2:1b", "llama3"]),
        ("llama3.2:1B", ["llama3.2:1b"], ["llama3.2"]),
        (" Llama3.2 ", ["llama3.2"], []),
        ("llama3.2:*", ["llama3.2", "llama3.2:1b"], ["llama3.2-vision", "x/llama3.2", "llama3.2:1b-cloud"]),
        ("llama3.2*", ["llama3.2", "llama3.2:1b", "llama3.2-vision:11b"], ["llama3", "x/llama3.2", "hf.co/x/llama3.2"]),
        ("*:1b", ["llama3.2:1b", "alice/x:1b"], ["llama3.2", "hf.co/a/b:1b"]),
        ("*coder*", ["qwen2.5-coder:7b", "alice/coder"], ["qwen2.5", "hf.co/a/coder"]),
        ("*coder", [], ["qwen-coder", "coder"]),
        ("*8b", ["llama3:8b", "alice/x:18b"], ["llama3", "8b"]),
        ("l*3*b", ["llama3:8b", "llama3.2:1b"], ["llama3", "xllama3:8b"]),
        ("alice/*", ["alice/x", "alice/y:7b"], ["x", "bob/x", "hf.co/alice/x"]),
        ("alice/x", ["alice/x", "registry.ollama.ai/Alice/X:latest"], ["x", "bob/x"]),
        ("*", ["llama3", "alice/x:7b"], ["hf.co/a/b", "llama3:cloud", "gpt-oss:20b-cloud"]),
        ("*/*", ["llama3", "alice/x:7b"], ["hf.co/a/b"]),
        ("hf.co/*", ["hf.co/a/b", "hf.co/bartowski/Llama:Q4"], ["llama3", "hf.com/a/b"]),
        ("https://hf.co/*", ["hf.co/a/b"], ["llama3"]),
        ("hf.co/bartowski/*", ["hf.co/bartowski/x"], ["hf.co/a/x"]),
        ("localhost:5000/*", ["localhost:5000/a/b"], ["llama3"]),
        ("*.example.com/*", ["r.example.com/a/b"], ["llama3", "example.com/a/b", "hf.co/a/example.com"]),
        ("*/*/*", ["llama3", "hf.co/a/b"], ["llama3:cloud"]),
        ("gpt-oss:20b-cloud", ["gpt-oss:20b-cloud", "gpt-oss:20b:cloud"], ["gpt-oss:20b", "gpt-oss:120b-cloud"]),
        ("gpt-oss:cloud", ["gpt-oss:cloud", "gpt-oss:latest-cloud"], ["gpt-oss", "gpt-oss:20b-cloud"]),
        ("gpt-oss:*-cloud", ["gpt-oss:20b-cloud"], ["gpt-oss:20b", "gpt-oss:cloud", "x:20b-cloud"]),
        ("gpt-oss*cloud", ["gpt-oss:20b-cloud", "gpt-oss:cloud"], ["gpt-oss:20b"]),
        ("*cloud", ["gpt-oss:20b-cloud", "x:cloud", "alice/x:cloud"], ["x", "x-cloud", "hf.co/a/b:cloud"]),
        ("hf.co/*cloud", ["hf.co/a/b:cloud"], ["hf.co/a/b", "x:cloud"]),
        ("x-cloud", ["x-cloud"], ["x:cloud"]),
    ],
)
def test_what_a_pattern_means(pattern: str, matching: list[str], others: list[str]) -> None:
    globs = ModelGlobs([pattern])
    assert [text for text in matching if name(text) not in globs] == []
    assert [text for text in others if name(text) in globs] == []


def test_one_pattern_of_several_suffices() -> None:
    globs = ModelGlobs(["a", "b*", "hf.co/*"])
    assert [text for text in ("a", "b2", "c", "hf.co/x/y") if name(text) in globs] == ["a", "b2", "hf.co/x/y"]
    assert name("a") not in ModelGlobs([])


@pytest.mark.parametrize(
    ("text", "allowed"), [("gpt-oss:20b-cloud", True), ("gpt-oss:cloud", True), ("x:cloud", False), ("gpt-oss", True)]
)
def test_cloud_models_may_be_taken_in(text: str, allowed: bool) -> None:
    assert (name(text) in ModelGlobs(["gpt-oss*"], cloud=True)) is allowed


@pytest.mark.parametrize("pattern", ["", "a b", "hf.co/bartowski", "a//b", "llama3:", "ll*m a", "é*", "*?", "a/b/c/d"])
def test_what_can_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ModelGlobs([pattern])


WORDS = st.text("ab.-:*", min_size=1, max_size=8)


@given(WORDS.map(lambda text: f"{text}*"), st.text("ab.-", max_size=8).map("a{}".format), st.sampled_from(["", ":b"]))
def test_a_star_is_any_text(pattern: str, model: str, tag: str) -> None:
    found = parse_model(model + tag)
    if found is not None and not found.cloud:
        expected = ".*".join(map(re.escape, canonical(pattern).split("*")))
        assert (found in ModelGlobs([pattern])) == bool(re.fullmatch(expected, found.full))


def test_matching_does_not_try_every_way() -> None:
    # A regular expression for it would outlast the universe, and this suite's time limit.
    assert name("a" * 80 + ":" + "a" * 80) not in ModelGlobs(["a*" * 400 + "b"])
    assert name("a" * 80 + ":" + "a" * 80) not in ModelGlobs(["*a" * 60 + "*b*"])
