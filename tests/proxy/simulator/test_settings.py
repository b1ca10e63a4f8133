import pytest

from proxy.simulator.settings import DEFAULT_MODELS, Model, Settings


@pytest.mark.parametrize(
    ("name", "capabilities", "remote"),
    [
        ("llama3.2", ("completion", "tools"), ""),
        ("qwen3:8b", ("completion", "tools", "thinking"), ""),
        ("me/deepseek-r1", ("completion", "tools", "thinking"), ""),
        ("nomic-embed-text", ("embedding",), ""),
        ("all-minilm", ("embedding",), ""),
        ("gpt-oss:120b-cloud", ("completion", "tools", "thinking"), "gpt-oss:120b"),
    ],
)
def test_a_name_promises_abilities(name: str, capabilities: tuple[str, ...], remote: str) -> None:
    model = Model.of(name)
    assert (model.capabilities, model.remote) == (capabilities, remote)


def test_digests_are_long_enough_for_the_cli() -> None:
    digests = {Model.of(name).digest for name in DEFAULT_MODELS}
    assert len(digests) == len(DEFAULT_MODELS)
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in digests)
    assert Model("a").digest == Model("a").digest


def test_settings_are_named() -> None:
    with pytest.raises(TypeError):
        Settings(1)  # type: ignore[call-arg]  # what is being tested
    with pytest.raises(TypeError):
        Settings(unknown=1)  # type: ignore[call-arg]  # what is being tested
