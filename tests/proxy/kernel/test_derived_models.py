"""proxy/kernel/derived_models.py."""

import pytest

from proxy.kernel.derived_models import base_key, base_of, derived_name, underived
from proxy.kernel.model_names import ModelName, parse


def model(text: str) -> ModelName:
    name = parse(text)
    assert name is not None
    return name


@pytest.mark.parametrize(
    ("text", "num_ctx", "name"),
    [
        ("llama3.2", 32768, "llama3.2:latest-ctx32k-by-proxy"),
        ("LLAMA3.2:3B", 1000, "llama3.2:3b-ctx1000-by-proxy"),
        ("hf.co/some/model:q4", 2048, "hf.co/some/model:q4-ctx2k-by-proxy"),
        ("alice/model", 131072, "alice/model:latest-ctx128k-by-proxy"),
        ("gpt-oss:120b-cloud", 32768, None),
        ("m:" + "t" * 80, 8192, None),
    ],
)
def test_the_name_of_a_model_with_another_context(text: str, num_ctx: int, name: str | None) -> None:
    assert derived_name(model(text), num_ctx) == name
    if name is not None:
        assert base_of(model(name)) == model(text)
        assert base_key(model(name).key) == model(text).key


@pytest.mark.parametrize("text", ["llama3.2:3b-ctx32k-by-proxy", "LLAMA3.2:3b-CTX8K-by-proxy"])
def test_none_is_derived_from_a_derived_one(text: str) -> None:
    assert derived_name(model(text), 8192) == "llama3.2:3b-ctx8k-by-proxy"
    assert underived(model(text)) == model("llama3.2:3b")


@pytest.mark.parametrize(
    "text", ["llama3.2", "m:ctx32k-by-proxy", "m:latest-ctx32k", "m:q-ctxk-by-proxy", "m:x-by-proxy"]
)
def test_what_no_model_of_the_proxy_is_called(text: str) -> None:
    assert base_of(model(text)) is None
    assert base_key(model(text).key) == model(text).key
