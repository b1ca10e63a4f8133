"""proxy/kernel/body_contents.py: what a body says, short or long, and how often it is looked at for that."""

import threading
from typing import Any

import orjson
import pytest
import zstandard

from proxy.kernel import body_json, json_edit
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Scope
from proxy.kernel.body_budget import Holding
from proxy.kernel.body_contents import LARGE, Contents
from proxy.kernel.errors import Refused
from proxy.kernel.json_bounds import CONTAINERS
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.routes import Match
from proxy.testing import make_exchange
from tests.support.options import body_budget

SHORT = {"model": "llama3.2", "stream": False}
LONG = {**SHORT, "messages": [{"role": "user", "content": "words " * (LARGE // 5)}]}


def place(path: str = "/v1/chat/completions", **headers: str) -> tuple[Match, Scope]:
    exchange = make_exchange(path=path, headers=[(name.replace("_", "-"), value) for name, value in headers.items()])
    assert isinstance(exchange.match, Match)
    return exchange.match, exchange.scope


async def read(body: bytes, *, encoded: bool = False, path: str = "/v1/chat/completions") -> Contents:
    """Read a body as the exchange does."""
    contents = Contents(body, encoded=encoded)
    match, scope = place(path, **({"content_encoding": "zstd"} if encoded else {}))
    if contents.unread:
        await contents.read_ahead(match, scope, Holding(body_budget()))
    else:
        contents.glance(match, scope)
    return contents


WRITTEN = [orjson.dumps(SHORT), orjson.dumps(LONG)]


@pytest.mark.parametrize("body", WRITTEN, ids=["short", "long"])
@pytest.mark.parametrize("encoded", [False, True])
async def test_what_a_body_says(body: bytes, encoded: bool) -> None:
    contents = await read(zstandard.compress(body) if encoded else body, encoded=encoded)
    assert contents.document == orjson.loads(body) == await contents.checked_document("by alice")
    assert (contents.model, contents.stream, contents.names) == (parse_model("llama3.2"), False, {"model": "llama3.2"})
    assert contents.text == body


@pytest.mark.parametrize("padding", ["", "words " * LARGE], ids=["short", "long"])
@pytest.mark.parametrize(
    ("start", "document", "refusal"),
    [
        ('{"model":"a","model":"b"', {"model": "b"}, "stands twice"),
        ('{"Model":"a"', {"Model": "a"}, "must be written"),
        ('{"model":nope', None, "not plain JSON"),
        ('["x"', None, "not plain JSON"),
    ],
)
async def test_what_is_wrong_with_a_body(padding: str, start: str, document: Any, refusal: str) -> None:
    contents = await read(f'{start},"x":"{padding}"}}'.encode())
    assert contents.document == (None if document is None else {**document, "x": padding})
    for _ in range(2):
        with pytest.raises(Refused, match=refusal):
            await contents.checked_document("by alice")


async def test_a_body_whose_model_is_no_text_is_one_all_the_same() -> None:
    for padding in ("", "words " * LARGE):
        contents = await read(orjson.dumps({"model": 1, "x": padding}))
        assert (contents.model, contents.names) == (None, {})
        assert (await contents.checked_document("by alice"))["model"] == 1


def form(size: int, *models: str) -> tuple[bytes, Match, Scope]:
    fields = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % name.encode() for name in models
    )
    file = b"--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n%b\r\n--b--" % bytes(size)
    return fields + file, *place("/v1/audio/transcriptions", content_type="multipart/form-data; boundary=b")


@pytest.mark.parametrize("size", [0, LARGE])
async def test_a_form(size: int) -> None:
    for models in (["a"], ["a", "b"]):
        body, match, scope = form(size, *models)
        contents = Contents(body)
        if contents.unread:
            await contents.read_ahead(match, scope, Holding(body_budget()))
        contents.glance(match, scope)
        if len(models) == 1:
            contents.refuse_flaw()
            assert contents.names == {"form": "a"}
        else:
            with pytest.raises(Refused, match="twice"):
                contents.refuse_flaw()
            assert contents.names == {}


async def test_of_a_long_body_nothing_is_known_until_it_is_read() -> None:
    contents = Contents(WRITTEN[1])
    contents.glance(*place())
    assert (contents.unread, contents.known, contents.document) == (True, False, None)


@pytest.mark.parametrize("body", WRITTEN, ids=["short", "long"])
async def test_a_body_is_parsed_once(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    class Counted:
        dumps, JSONEncodeError, JSONDecodeError = orjson.dumps, orjson.JSONEncodeError, orjson.JSONDecodeError

        @staticmethod
        def loads(text: bytes) -> Any:
            parsed.append(len(text))
            return orjson.loads(text)

    monkeypatch.setattr(body_json, "orjson", Counted)
    contents = await read(body)
    await contents.checked_document("by alice")
    await contents.checked_document("by alice")
    contents.edited({"model": "x"}).glance(*place())
    assert parsed == [len(body)]


@pytest.mark.parametrize(
    "body",
    [WRITTEN[1], b'{"model":"a","x":[' + b",".join([b"[" * 200 + b"]" * 200] * 150) + b'],"options":{"num_ctx":9}}'],
    ids=["long", "brackets"],
)
async def test_what_takes_time_to_edit_is_not_edited_on_the_loop(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    edit = json_edit.edit

    def noted(raw: bytes, patch: Any) -> bytes:
        threads.append(threading.get_ident())
        return edit(raw, patch)

    monkeypatch.setattr(json_edit, "edit", noted)
    contents = await read(body)
    await contents.checked_document("by alice")
    after = contents.edited({"options": {"num_ctx": 8}})
    assert threads == []
    meant = {**orjson.loads(body), "options": {"num_ctx": 8}}
    assert after.document == meant
    assert orjson.loads(await after.write_edits("by alice")) == meant
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("body", WRITTEN, ids=["short", "long"])
async def test_edits(body: bytes) -> None:
    contents = await read(body)
    await contents.checked_document("by alice")
    for patch in ({"model": "b"}, {"options": 5}, {"options": {"num_ctx": 8}}):
        contents = contents.edited(patch)
    contents.glance(*place())
    assert contents.model == parse_model("b")
    meant = {**orjson.loads(body), "model": "b", "options": {"num_ctx": 8}}
    assert contents.document == meant
    assert orjson.loads(await contents.write_edits("by alice")) == meant
    assert contents.edits == []


@pytest.mark.parametrize("body", WRITTEN, ids=["short", "long"])
async def test_what_it_asked_for_is_known_when_it_has_gone(body: bytes) -> None:
    contents = await read(body)
    contents.release()
    assert (contents.text, contents.document) == (b"", None)
    assert (contents.known, contents.model, contents.stream) == (True, parse_model("llama3.2"), False)


@pytest.mark.parametrize(
    ("body", "encoded"),
    [(b'{"model":"a","x":[' + b"[]," * CONTAINERS + b"1]}", False), (zstandard.compress(b" " * 10**7), True)],
)
async def test_what_holds_too_much_is_nobodys_to_judge(body: bytes, encoded: bool) -> None:
    contents = await read(body, encoded=encoded)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            contents.refuse_excess()
        assert caught.value.code == codes.BODY_HOLDS_TOO_MUCH


async def test_what_is_no_json_may_be_for_ollama_to_judge() -> None:
    contents = await read(b"nope" * LARGE)
    contents.refuse_excess()
    with pytest.raises(Refused, match="not plain JSON"):
        contents.refuse_flaw()


async def test_the_size_of_a_long_body_is_found_out_off_the_loop_though_no_policy_may_depend_on_it() -> None:
    flawed = b'{"model":"a","Model":"b","messages":[' + b",".join([b'{"role":"user","content":"hi"}'] * 3_000) + b"]}"
    threads: list[int] = []
    of = PromptSize.of

    def noted(document: dict[str, Any], length: int) -> PromptSize:
        threads.append(threading.get_ident())
        return of(document, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptSize, "of", noted)
        contents = await read(flawed)
        assert contents.prompt_size.text > len(flawed) // 2
    assert len(threads) == 1
    assert threading.get_ident() not in threads
