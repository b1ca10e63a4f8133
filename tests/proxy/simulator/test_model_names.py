import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.simulator import model_names

LLAMA = "registry.ollama.ai/library/llama3:latest"


@pytest.mark.parametrize(
    ("raw", "key", "source"),
    [
        ("llama3", LLAMA, ""),
        (" LLAMA3:Latest ", LLAMA, ""),
        ("library/llama3", LLAMA, ""),
        ("\u2003llama3\x85\u3000", LLAMA, ""),
        ("x://registry.ollama.ai/library/llama3:latest", LLAMA, ""),
        ("REGISTRY.OLLAMA.AI/library/llama3", LLAMA, ""),
        ("llama3:local", LLAMA, "local"),
        ("llama3:LOCAL", LLAMA, "local"),
        ("llama3:cloud", LLAMA, "cloud"),
        ("llama3: cloud ", LLAMA, "cloud"),
        ("gpt-oss:120b-cloud", "registry.ollama.ai/library/gpt-oss:120b", "cloud"),
        ("gpt-oss:120b:cloud", "registry.ollama.ai/library/gpt-oss:120b", "cloud"),
        ("me/mine:7b", "registry.ollama.ai/me/mine:7b", ""),
        ("localhost:5000/me/mine", "localhost:5000/me/mine:latest", ""),
        ("hf.co/org/repo:Q4_K_M", "hf.co/org/repo:q4_k_m", ""),
        ("cloud", "registry.ollama.ai/library/cloud:latest", ""),
        ("my-cloud", "registry.ollama.ai/library/my-cloud:latest", ""),
    ],
)
def test_one_key_for_every_spelling(raw: str, key: str, source: str) -> None:
    name = model_names.parse(raw)
    assert (name.key, name.source) == (key, source)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ("", model_names.NameRequired),
        ("  \t", model_names.NameRequired),
        ("llama3:local:cloud", model_names.ConflictingSource),
        ("llama3:7b-cloud:cloud", model_names.ConflictingSource),
        ("llama3:", model_names.BadName),
        (":7b", model_names.BadName),
        ("a/b/c/", model_names.BadName),
        ("/llama3", model_names.BadName),
        (".hidden", model_names.BadName),
        ("-flag", model_names.BadName),
        ("llämä", model_names.BadName),
        ("a b", model_names.BadName),
        ("a\x1f", model_names.BadName),
        ("my.space/model", model_names.BadName),
        ("m" * 81, model_names.BadName),
        ("../../etc/passwd", model_names.BadName),
    ],
)
def test_what_is_no_name(raw: str, error: type[model_names.BadName]) -> None:
    with pytest.raises(model_names.BadName) as caught:
        model_names.parse(raw)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("raw", "short"),
    [
        ("LLama3", "LLama3:latest"),
        ("me/mine:7b", "me/mine:7b"),
        ("hf.co/library/x:y", "hf.co/library/x:y"),
        ("registry.ollama.ai/me/mine", "me/mine:latest"),
    ],
)
def test_short_names_always_have_a_tag(raw: str, short: str) -> None:
    assert model_names.parse(raw).short == short


def test_the_stub_of_a_cloud_model_keeps_its_suffix() -> None:
    assert model_names.parse_stored("gpt-oss:120b-cloud").short == "gpt-oss:120b-cloud"
    assert model_names.parse_stored("gpt-oss:cloud").short == "gpt-oss:cloud"
    assert model_names.parse_stored("llama3").key == LLAMA


def test_copy_and_push_know_no_source_suffix() -> None:
    assert model_names.parse_plain("llama3:cloud").key == "registry.ollama.ai/library/llama3:cloud"


@settings(deadline=None)
@given(st.text() | st.text(alphabet="aZ0_-.:/ ", max_size=12) | st.from_regex(r"\w+/\w+:\w*(-cloud)?(:local)?"))
def test_any_text_is_a_name_or_a_bad_name(raw: str) -> None:
    try:
        name = model_names.parse(raw)
    except model_names.BadName:
        return
    assert name.key == name.key.lower()
    assert model_names.parse(name.key).key == name.key
