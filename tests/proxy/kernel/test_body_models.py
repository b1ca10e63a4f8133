"""proxy/kernel/body_models.py."""

import pytest

from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange

FORM = [("content-type", "multipart/form-data; boundary=b")]


def form(*models: str) -> bytes:
    parts = [f'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n' for model in models]
    return "".join([*parts, '--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--b--\r\n']).encode()


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/api/chat", b'{"model":"a"}', {"model": "a"}),
        ("/api/chat", b'{"model":" A "}', {"model": " A "}),
        ("/api/chat", b'{"name":"a"}', {}),
        ("/api/chat", b'{"model":null}', {}),
        ("/api/chat", b'{"model":""}', {}),
        ("/api/chat", b"{}", {}),
        ("/api/show", b'{"name":"a"}', {"name": "a"}),
        ("/api/show", b'{"name":"a","model":"b"}', {"model": "b", "name": "a"}),
        ("/api/pull", b'{"model":"","name":"a"}', {"name": "a"}),
        ("/api/create", b'{"from":"c","name":"b","model":"a"}', {"model": "a", "name": "b", "from": "c"}),
        ("/api/copy", b'{"source":"a","destination":"b"}', {"source": "a", "destination": "b"}),
        ("/v1/embeddings", b'{"model":"a","input":"x"}', {"model": "a"}),
        ("/api/me", b'{"model":"a"}', {}),
    ],
)
async def test_in_a_json_body(path: str, body: bytes, names: dict[str, str]) -> None:
    exchange = make_exchange(path=path, body=body)
    found = await exchange.names()
    assert list(found.items()) == list(names.items())
    assert exchange.model is None or exchange.model.short == f"{next(iter(names.values())).strip().lower()}:latest"


@pytest.mark.parametrize("value", [b"1", b"true", b"[]", b"{}", b'["a"]'])
async def test_a_name_is_text(value: bytes) -> None:
    exchange = make_exchange(body=b'{"model":' + value + b"}")
    with pytest.raises(Refused, match='"model" in the request body must be text'):
        await exchange.names()
    assert exchange.model is None


async def test_in_the_path() -> None:
    exchange = make_exchange("GET", "/v1/models/llama3:8b")
    assert await exchange.names() == {"path": "llama3:8b"}
    assert exchange.model is not None
    assert exchange.model.tag == "8b"


async def test_other_arguments_of_a_path_are_no_models() -> None:
    assert await make_exchange("HEAD", "/api/blobs/sha256:00").names() == {}
    assert await make_exchange("DELETE", "/api/user/keys/k", body=b"{}").names() == {}
    assert await make_exchange("GET", "/nowhere").names() == {}


@pytest.mark.parametrize(
    ("query", "models", "names"),
    [
        (b"", ["a"], {"form": "a"}),
        (b"model=b", [], {"query": "b"}),
        (b"mod%65l=b+c", [], {"query": "b c"}),
        (b"Model=b", ["a"], {"form": "a"}),
        (b"", [""], {}),
        (b"", [], {}),
    ],
)
async def test_in_a_form_and_its_query(query: bytes, models: list[str], names: dict[str, str]) -> None:
    exchange: Exchange = make_exchange(path="/v1/audio/transcriptions", query=query, body=form(*models), headers=FORM)
    assert await exchange.names() == names


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "unknown"])
async def test_a_form_is_not_read_through_an_encoding(encoding: str) -> None:
    """Ollama undoes none of a form, whatever its header says; whoever is in between may have."""
    headers = [*FORM, ("content-encoding", encoding)]
    exchange = make_exchange(path="/v1/audio/transcriptions", body=form("a"), headers=headers)
    with pytest.raises(Refused) as refused:
        await exchange.names()
    assert refused.value.status == 415
    assert exchange.model is None


@pytest.mark.parametrize(
    ("query", "models"), [(b"", ["a", "b"]), (b"", ["a", "a"]), (b"model=a", ["a"]), (b"model=a&model=b", [])]
)
async def test_a_form_names_one_model(query: bytes, models: list[str]) -> None:
    exchange = make_exchange(path="/v1/audio/transcriptions", query=query, body=form(*models), headers=FORM)
    with pytest.raises(Refused, match="twice"):
        await exchange.names()
    assert exchange.model is None
