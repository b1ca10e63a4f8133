import pytest

from proxy.simulator import model_names
from proxy.simulator.disk import Disk, digest_of, layers
from proxy.simulator.settings import Model


def test_models_are_found_under_every_spelling() -> None:
    store = Disk(("Llama3", Model("me/mine:7b")))
    assert "LLAMA3:latest" in store
    assert "library/llama3" in store
    assert "me/mine:7B" in store
    assert "me/mine" not in store
    assert [model.name for model in store.listed()] == ["Llama3:latest", "me/mine:7b"]


def test_copies_are_independent() -> None:
    store = Disk(("a",))
    assert store.copy(model_names.parse("a").key, model_names.parse("me/b:1"))
    assert store.remove(model_names.parse("a").key)
    assert [model.name for model in store.listed()] == ["me/b:1"]
    assert not store.copy(model_names.parse("a").key, model_names.parse("c"))
    assert not store.remove(model_names.parse("a").key)


def test_each_model_is_a_blob() -> None:
    store = Disk(("a",))
    assert store.blobs == {f"sha256:{store.listed()[0].digest}": store.listed()[0].size}


@pytest.mark.parametrize(
    ("raw", "digest"),
    [
        ("sha256:" + "0" * 64, "sha256:" + "0" * 64),
        ("sha256-" + "aF" * 32, "sha256:" + "aF" * 32),
        ("sha256:" + "0" * 63, None),
        ("md5:" + "0" * 64, None),
        ("sha256:" + "0" * 64 + "/..", None),
        ("", None),
    ],
)
def test_digests(raw: str, digest: str | None) -> None:
    assert digest_of(raw) == digest


def test_layers_are_the_same_each_time() -> None:
    assert layers("a", 3, 10) == layers("a", 3, 10)
    assert [size for _, size in layers("a", 2, 10)] == [10, 1001]
    assert all(digest_of(digest) for digest, _ in layers("a", 3, 10))
