"""middleware/access/plugin.py."""

from collections.abc import Sequence
from typing import Any

import httpx
import orjson
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.access.plugin import Access
from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.errors import Refused, UpstreamError
from proxy.kernel.exchange import Exchange
from proxy.kernel.model_names import parse as parse_model
from proxy.simulator import go_json, model_names
from proxy.testing import Answer, call, make_exchange, ok, suppose
from tests.support.asgi import hands_send_on, unread

FORM = [("content-type", "multipart/form-data; boundary=b")]


def form(*models: str) -> bytes:
    parts = [f'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n' for model in models]
    return "".join([*parts, "--b--"]).encode() if parts else b""


FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\nllama3.2\r\n--b--'


async def ask(
    access: Access,
    method: str = "POST",
    path: str = "/api/chat",
    body: bytes = b"",
    *,
    policy: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
    query: bytes = b"",
) -> Answer:
    exchange = make_exchange(method, path, body=body, headers=headers, query=query)
    suppose(exchange, policy=policy)
    return await call(access, exchange)


def refusal(answer: Answer) -> tuple[int, str]:
    assert isinstance(answer.error, Refused)
    assert answer.status is None
    return answer.error.status, answer.error.code


# Routes

CHAT = b'{"model":"llama3.2"}'


SEARCH = b'"tools":[{"type":"function","name":"x"},{"type":"web_search_20250305","name":"web_search"}]'


@pytest.mark.parametrize(
    ("routes", "path", "body", "allowed"),
    [
        ((), "/v1/messages", b'{"model":"a",%b}' % SEARCH, False),
        ((), "/v1/responses", b'{"model":"a","tools":[{"type":"web_search"}]}', False),
        ((), "/v1/messages", b'{"model":"a","tools":[{"Type":"web_search"}]}', False),
        ((), "/v1/messages", b'{"model":"a","tools":[{"type":"function","TYPE":"web_search"}]}', False),
        ((), "/v1/messages", b'{"model":"a","tools":[{"type":"custom","name":"web_search"}]}', True),
        ((), "/v1/messages", b'{"model":"a","tools":[{"name":"web_search","input_schema":{"type":"object"}}]}', True),
        ((), "/v1/messages", b'{"model":"a","tools":[]}', True),
        ((), "/v1/messages", b'{"model":"a","tools":null}', True),
        ((), "/v1/messages", b'{"model":"a","tools":["web_search",{"type":7}]}', True),
        ((), "/api/chat", b'{"model":"a",%b}' % SEARCH, True),  # which runs no tool itself
        (("account",), "/v1/messages", b'{"model":"a",%b}' % SEARCH, True),
        (("/api/experimental/web_search",), "/v1/messages", b'{"model":"a",%b}' % SEARCH, True),
        (("POST /api/experimental/web_search",), "/v1/responses", b'{"model":"a",%b}' % SEARCH, True),
        (("GET /api/experimental/web_search",), "/v1/responses", b'{"model":"a",%b}' % SEARCH, False),
    ],
)
async def test_who_may_not_search_by_the_operators_account_cannot_let_a_model_do_it(
    routes: Sequence[str], path: str, body: bytes, allowed: bool
) -> None:
    routes = ("inference", *routes)
    answer = await ask(Access(ok, routes=routes, hosted_tools="refuse"), "POST", path, body)
    if allowed:
        assert answer.status == 200
    else:
        assert refusal(answer) == (403, "tool_not_allowed")
    exchange = make_exchange("POST", path, body=body)
    assert (await call(Access(ok, routes=routes), exchange)).status == 200
    assert exchange.dropped == (() if allowed else ("web_search",))
    assert (await exchange.body() == body) == allowed
    exchange = make_exchange("POST", path, body=body)
    assert (await call(Access(ok, routes=routes, hosted_tools="allow"), exchange)).status == 200
    assert (await exchange.body(), exchange.dropped) == (body, ())


@pytest.mark.parametrize(
    ("path", "kind", "dropped"),
    [
        *(("/v1/responses", kind, "web_search") for kind in ("web_search_preview", "web_search_preview_2025_03_11")),
        *(("/v1/responses", kind, kind) for kind in ("file_search", "code_interpreter", "image_generation", "mcp")),
        *(("/v1/responses", kind, kind) for kind in ("computer", "shell")),
        ("/v1/responses", "computer_use_preview", "computer_use"),
        *(("/v1/responses", kind, None) for kind in ("function", "custom", "namespace", "local_shell", "tool_search")),
        ("/v1/messages", "web_fetch_20250910", "web_fetch"),
        ("/v1/messages", "code_execution_20250825", "code_execution"),
        ("/v1/messages", "mcp_toolset", "mcp_toolset"),
        # which the client runs
        *(("/v1/messages", f"{kind}_20250124", None) for kind in ("bash", "text_editor", "computer", "memory")),
        ("/v1/messages", "custom", None),
        ("/v1/chat/completions", "web_search", None),
    ],
)
async def test_tools_that_nobody_would_run(path: str, kind: str, dropped: str | None) -> None:
    tools = [{"type": "function", "name": "own"}, {"type": kind, "name": "x"}]
    body = orjson.dumps({"model": "a", "tools": tools})
    exchange = make_exchange("POST", path, body=body)
    assert (await call(Access(ok), exchange)).status == 200
    assert exchange.dropped == (() if dropped is None else (dropped,))
    assert orjson.loads(await exchange.body())["tools"] == (tools if dropped is None else tools[:1])
    answer = await ask(Access(ok, hosted_tools="refuse"), "POST", path, body)
    assert answer.status == 200 if dropped is None else refusal(answer) == (403, "tool_not_allowed")


async def test_of_the_tools_that_are_kept_every_byte_stays() -> None:
    kept = rb'{ "type":"function","name":"\u0061", "parameters":{"big":123456789012345678901, "x":1.50e2} }'
    for tools in (b'[%b , {"type":"web_search"}]', b'[{"type":"web_search"},%b]', b'[%b,{"type":"mcp"},%b]'):
        body = b'{"tools":' + tools.replace(b"%b", kept) + b' , "model":"a"}'
        exchange = make_exchange("POST", "/v1/responses", body=body)
        assert (await call(Access(ok), exchange)).status == 200
        sent = await exchange.body()
        assert sent.count(kept) == body.count(kept)
        assert orjson.loads(sent)["tools"] == orjson.loads(b"[" + b",".join([kept] * body.count(kept)) + b"]")
        assert sent.endswith(b' , "model":"a"}')


@pytest.mark.parametrize(
    ("routes", "method", "path", "allowed"),
    [
        ((), "HEAD", "/", True),
        ((), "GET", "/", True),
        ((), "GET", "/api/version", False),
        (("read",), "GET", "/api/version", True),
        (("read",), "POST", "/api/show", True),
        (("read",), "POST", "/api/chat", False),
        (("inference",), "POST", "/api/chat", True),
        (("inference",), "GET", "/api/ps", False),
        (("read", "inference"), "POST", "/api/pull", False),
        (("read", "inference"), "DELETE", "/api/delete", False),
        (("read", "inference"), "POST", "/api/me", False),
        (("manage",), "POST", "/api/pull", True),
        (("manage",), "HEAD", "/api/blobs/sha256:00", True),
        (("/api/pull",), "POST", "/api/pull", True),
        (("POST /api/pull",), "POST", "/api/pull", True),
        (("/api/pull",), "POST", "/api/push", False),
        (("HEAD /api/blobs/{digest}",), "HEAD", "/api/blobs/sha256:00", True),
        (("HEAD /api/blobs/{digest}",), "POST", "/api/blobs/sha256:00", False),
        (("/v1/models/{model}",), "GET", "/v1/models/llama3.2", True),
        (("account",), "POST", "/api/signout", True),
        ((), "GET", "/nowhere", True),  # whoever is inside says 404
    ],
)
async def test_routes(routes: tuple[str, ...], method: str, path: str, allowed: bool) -> None:
    answer = await ask(Access(ok, routes=routes), method, path, CHAT)
    if allowed:
        assert answer.status == 200
    else:
        assert refusal(answer) == (403, "route_not_allowed")


async def test_a_refused_route_is_refused_before_its_body_is_read() -> None:
    exchange = make_exchange("POST", "/api/pull", body=CHAT)
    rest = unread(exchange)
    answer = await call(Access(ok), exchange)
    assert refusal(answer) == (403, "route_not_allowed")
    assert (await rest())["body"] == CHAT


@pytest.mark.parametrize("route", ["reed", "api/pull", "POST", "", "POST api/pull"])
def test_a_route_that_is_none_is_a_mistake(route: str) -> None:
    with pytest.raises(ValueError, match="neither a route"):
        Access(ok, routes=[route])


def test_a_pattern_that_is_none_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="not the name of a model"):
        Access(ok, models=["a b"])


# Models


@pytest.mark.parametrize(
    "text",
    [
        *("secret", " secret ", "SECRET:Latest", "library/secret", "registry.ollama.ai/library/secret:latest"),
        *("x://registry.ollama.ai/library/secret", "secret:local", "alice/llama3.2", "llama3.1", "llama3"),
        *("llama3.2:cloud", "llama3.2:1b-cloud", "llama3.2:1b:cloud", "llama3.2: CLOUD"),
        *("hf.co/library/llama3.2", "registry.ollama.ai.evil.com/library/llama3.2", "evil/library/llama3.2"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/chat", '{"model":%s}'),
        ("POST", "/api/generate", '{"name":"llama3.2","model":%s}'),
        ("POST", "/api/embed", '{"input":"x","model":%s}'),
        ("POST", "/v1/chat/completions", '{"mod\\u0065l":%s}'),
        ("POST", "/v1/messages", '{ "max_tokens" : 1, "model" : %s }'),
        ("POST", "/api/show", '{"model":%s}'),
        ("POST", "/api/show", '{"name":%s}'),
        ("POST", "/api/show", '{"model":"llama3.2","name":%s}'),
        ("POST", "/api/show", '{"model":null,"name":%s}'),
        ("POST", "/api/pull", '{"model":%s}'),
        ("POST", "/api/pull", '{"name":%s}'),
        ("POST", "/api/push", '{"name":%s}'),
        ("DELETE", "/api/delete", '{"name":%s}'),
        ("POST", "/api/create", '{"model":"llama3.2","from":%s}'),
        ("POST", "/api/create", '{"model":%s,"from":"llama3.2"}'),
        ("POST", "/api/copy", '{"source":%s,"destination":"llama3.2"}'),
        ("POST", "/api/copy", '{"source":"llama3.2","destination":%s}'),
    ],
)
async def test_no_spelling_and_no_place_passes_the_list(method: str, path: str, body: str, text: str) -> None:
    access = Access(ok, routes=["read", "inference", "manage"], models=["llama3.2*"])
    answer = await ask(access, method, path, (body % orjson.dumps(text).decode()).encode())
    plain = text == "secret:local" and path in ("/api/copy", "/api/push")
    assert refusal(answer) == ((400, "invalid_request") if plain else (403, "model_not_allowed"))


@pytest.mark.parametrize(
    ("path", "query", "body"),
    [
        ("/v1/models/secret", b"", b""),
        ("/v1/models/Secret:LATEST", b"", b""),
        ("/v1/audio/transcriptions", b"model=secret", FILE),
        ("/v1/audio/transcriptions", b"mod%65l=s%65cret", FILE),
        ("/v1/audio/transcriptions", b"", form("secret")),
        ("/v1/audio/transcriptions", b"a=llama3.2", form("SECRET")),
    ],
)
async def test_nor_does_path_query_or_form(path: str, query: bytes, body: bytes) -> None:
    method = "GET" if "models" in path else "POST"
    answer = await ask(Access(ok, models=["llama3.2*"]), method, path, body, query=query, headers=FORM)
    assert refusal(answer) == (403, "model_not_allowed")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"model":"llama3.2","model":"secret"}', ()),
        (b'{"model":"secret","model":"llama3.2"}', ()),
        (b'{"model":"secret","model":null}', ()),
        (b'{"model":"llama3.2","Model":"secret"}', ()),
        (b'{"model":"llama3.2","mod\\u0065l":"secret"}', ()),
        ('{"model":"llama3.2","\u017ftream":false}'.encode(), ()),
        (b'{"model":"llama3.2"}{"model":"secret"}', ()),
        (b'{"model":"llama3.2"', ()),
        (b'{"model":"llama3.2\xff"}', ()),
        ('{"model":"llama3.2"}'.encode("utf-16"), ()),
        (b'\xef\xbb\xbf{"model":"llama3.2"}', ()),
        (b'{"model":["secret"]}', ()),
        (b'{"model":0}', ()),
        (b'{"model":""}', ()),
        (b"{}", ()),
        (b"", ()),
        (b'{"model":"llama 3"}', ()),
        (b'{"model":"llama3.2@sha256:00"}', ()),
        (b'{"model":"a/b/c/d"}', ()),
    ],
)
async def test_what_cannot_be_judged_is_refused(body: bytes, headers: Sequence[tuple[str, str]]) -> None:
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
        assert refusal(await ask(Access(ok), "POST", path, body, headers=headers))[0] == 400


@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        (b"", form("llama3.2", "secret"), FORM),
        (b"model=llama3.2", form("secret"), FORM),
        (b"model=llama3.2&model=secret", form(""), FORM),
        (b"", b"", FORM),
        (b"", b'{"model":"llama3.2"}', ()),
        (b"", b"model=llama3.2", [("content-type", "application/x-www-form-urlencoded")]),
        (b"model=llama3.2", b"model=secret", [("content-type", "application/x-www-form-urlencoded")]),
        (b"", form("llama3.2"), [*FORM, *FORM]),
        (b"", form(""), FORM),
    ],
)
async def test_what_form_cannot_be_judged_is_refused(
    query: bytes, body: bytes, headers: Sequence[tuple[str, str]]
) -> None:
    answer = await ask(Access(ok), "POST", "/v1/audio/transcriptions", body, query=query, headers=headers)
    assert refusal(answer)[0] == 400


@pytest.mark.parametrize(
    ("path", "encoding", "status"),
    [
        ("/v1/chat/completions", "zstd", 200),
        ("/v1/chat/completions", "gzip", 415),
        ("/api/chat", "zstd", 415),
        ("/api/chat", "identity", 400),  # it is zstd all the same
        ("/api/version", "x", 200),  # nothing depends on it
    ],
)
async def test_encodings(path: str, encoding: str, status: int) -> None:
    method = "GET" if path == "/api/version" else "POST"
    answer = await ask(Access(ok), method, path, zstandard.compress(CHAT), headers=[("content-encoding", encoding)])
    assert (answer.error.status if answer.error else answer.status) == status


async def test_the_list_holds_inside_of_zstd() -> None:
    body = zstandard.compress(b'{"model":"secret"}')
    access = Access(ok, models=["llama3.2*"])
    answer = await ask(access, "POST", "/v1/responses", body, headers=[("content-encoding", "zstd")])
    assert refusal(answer) == (403, "model_not_allowed")


@pytest.mark.parametrize(
    ("options", "text", "allowed"),
    [
        ({}, "llama3.2", True),
        ({}, "alice/x:7b", True),
        ({}, "gpt-oss:120b-cloud", False),
        ({}, "hf.co/a/b", False),
        ({"cloud": True}, "gpt-oss:120b-cloud", True),
        ({"cloud": True}, "hf.co/a/b", False),
        ({"cloud": True, "models": ["llama3*"]}, "gpt-oss:120b-cloud", False),
        ({"models": ["*", "*cloud"]}, "gpt-oss:120b-cloud", True),
        ({"models": ["*", "hf.co/*"]}, "hf.co/a/b", True),
        ({"models": []}, "llama3.2", False),
    ],
)
async def test_cloud_and_other_registries_must_be_named(options: dict[str, Any], text: str, allowed: bool) -> None:
    answer = await ask(Access(ok, **options), body=orjson.dumps({"model": text}))
    assert answer.status == 200 if allowed else refusal(answer) == (403, "model_not_allowed")


@pytest.mark.parametrize("path", ["/api/copy", "/api/push"])
async def test_where_local_is_a_tag_it_is_refused(path: str) -> None:
    access = Access(ok, routes=["manage"], models=["llama3.2"])
    body = b'{"model":"llama3.2:Local ","source":"llama3.2:LOCAL","destination":"llama3.2"}'
    answer = await ask(access, "POST", path, body.replace(b'Local "', b'Local"'))
    assert refusal(answer) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ({"models": ["a"]}, "b", "the model 'b' is not allowed for policy 'guests'"),
        ({}, "b:cloud", "the cloud model 'b:cloud' is not allowed for policy 'guests'"),
        ({}, "hf.co/a/b", "the model 'hf.co/a/b' of another registry is not allowed for policy 'guests'"),
    ],
)
async def test_the_message_says_what_and_for_whom(options: dict[str, Any], text: str, message: str) -> None:
    answer = await ask(Access(ok, **options), body=orjson.dumps({"model": text}), policy="guests")
    assert answer.error is not None
    assert answer.error.message == message


async def test_the_message_without_a_policy() -> None:
    answer = await ask(Access(ok), "POST", "/api/pull", CHAT)
    assert answer.error is not None
    assert answer.error.message == "POST /api/pull is not allowed for you"


async def test_what_is_allowed_is_passed_on_as_it_came() -> None:
    seen: list[Message] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())

    body = b'{ "model": "LLAMA3.2:latest" , "x": 1.0}\n'
    exchange = make_exchange(body=[body[:9], body[9:]])
    await call(Access(inner, models=["llama3.2"]), exchange)
    assert seen == [{"type": "http.request", "body": body, "more_body": False}]


# What passes is what Ollama reads, whatever is written

SHAPE = {"model": go_json.STRING, "name": go_json.STRING, "stream": go_json.POINTER + go_json.BOOL}
KEYS = st.sampled_from(["model", "name", "stream", "x", "Model", "MODEL", "NAME", "\u017ftream", "mod\u0065l", "ﬁ"])
VALUES = st.sampled_from(
    ["allowed", "secret", " ALLOWED:latest", "secret:cloud", "", None, 1, True, {"model": "secret"}]
)
TAILS = st.sampled_from(["", " ", "\n", '{"model":"secret"}', "x", "\x00", ","])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    members = draw(st.lists(st.tuples(KEYS, VALUES), max_size=4))
    ascii_only = draw(st.booleans())
    written = []
    for key, value in members:
        text = orjson.dumps(key).decode()
        if draw(st.booleans()):
            text = '"' + "".join(f"\\u{ord(char):04x}" for char in key) + '"'
        written.append(f"{text}:{orjson.dumps(value).decode()}")
    body = "{" + ", ".join(written) + "}" + draw(TAILS)
    return body.encode("ascii" if ascii_only and body.isascii() else "utf-8")


@given(bodies())
@example(b'{"model":"allowed","model":"secret"}')
async def test_what_passes_names_only_what_is_allowed(body: bytes) -> None:
    answer = await ask(Access(ok, routes=["/api/show"], models=["allowed"]), "POST", "/api/show", body)
    if answer.status == 200:
        try:
            read = go_json.decode(body, SHAPE)
        except go_json.BadJSON:
            return  # a stream that is no bool, which Ollama refuses itself
        # As cmp.Or(req.Model, req.Name) and server.ShowHandler read it.
        assert model_names.parse(read["model"] or read["name"]).key == "registry.ollama.ai/library/allowed:latest"


@given(st.text("aA:/-. clouds", max_size=14))
async def test_what_passes_is_a_name_that_ollama_takes_for_the_same(text: str) -> None:
    answer = await ask(Access(ok, models=["a*"]), body=orjson.dumps({"model": text}))
    if answer.status == 200:
        found = model_names.parse(text)
        assert found.key.startswith("registry.ollama.ai/library/a")
        assert found.source != "cloud"


# Fields


@pytest.mark.parametrize(
    ("options", "body", "allowed"),
    [
        ({}, b'{"model":"a","from":"b","remote_host":"https://evil.example"}', False),
        ({}, b'{"model":"a","insecure":true}', True),
        ({"blocked_fields": ["insecure"]}, b'{"model":"a","insecure":true}', False),
        ({}, b'{"model":"a","modelfile":"FROM b"}', False),
        ({}, b'{"model":"a","insecure":false,"remote_host":"","from":"b"}', True),
        ({}, b'{"model":"a","remote_host":null}', True),
        ({"blocked_fields": []}, b'{"model":"a","remote_host":"https://h"}', True),
        ({"blocked_fields": ["from", "Files"]}, b'{"model":"a","from":"b"}', False),
        ({"blocked_fields": ["from", "Files"]}, b'{"model":"a","files":{"x":"sha256:00"}}', False),
        ({"blocked_fields": ["from", "Files"]}, b'{"model":"a","files":{}}', True),
        ({"blocked_fields": ["secret_field"]}, b'{"model":"a","SECRET_field":1}', False),
        ({"blocked_fields": ["secret_field"]}, '{"model":"a","\u017fecret_field":1}'.encode(), False),
    ],
)
async def test_fields(options: dict[str, Any], body: bytes, allowed: bool) -> None:
    answer = await ask(Access(ok, routes=["manage"], **options), "POST", "/api/create", body)
    assert answer.status == 200 if allowed else refusal(answer) == (403, "field_not_allowed")


@pytest.mark.parametrize(
    ("options", "body", "sent", "dropped"),
    [
        ({}, b'{ "model":"a", "insecure": true }', b'{ "model":"a", "insecure": null }', ("insecure",)),
        ({}, b'{"insecure":1,"model":"a"}', b'{"insecure":null,"model":"a"}', ("insecure",)),
        ({}, b'{"model":"a","insecure":false}', b'{"model":"a","insecure":false}', ()),
        ({"dropped_fields": []}, b'{"model":"a","insecure":true}', b'{"model":"a","insecure":true}', ()),
        ({"dropped_fields": ["Files"]}, b'{"model":"a","files":{"x":[1]}}', b'{"model":"a","files":null}', ("files",)),
        (
            {"dropped_fields": ["secret"]},
            '{"model":"a","\u017fecret":1}'.encode(),
            '{"model":"a","\u017fecret":null}'.encode(),
            ("secret",),
        ),
    ],
)
async def test_fields_that_are_left_out(
    options: dict[str, Any], body: bytes, sent: bytes, dropped: tuple[str, ...]
) -> None:
    exchange = make_exchange("POST", "/api/pull", body=body)
    answer = await call(Access(ok, routes=["manage"], **options), exchange)
    assert answer.status == 200
    assert (await exchange.body(), exchange.dropped) == (sent, dropped)


# Lists


def serving(*chunks: bytes, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"x"), *headers]})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def tags(*models: str) -> bytes:
    entries = [{"name": text, "model": text, "size": 2**40, "details": {"families": None}} for text in models]
    return orjson.dumps({"models": entries})


def models(*ids: str) -> bytes:
    return orjson.dumps({"object": "list", "data": [{"id": text, "object": "model"} for text in ids]})


@pytest.mark.parametrize(
    ("path", "whole", "left"),
    [
        ("/api/tags", tags("a:latest", "b:latest", "c:cloud", "hf.co/x/y:Q4", "a:1b"), tags("a:latest", "a:1b")),
        ("/api/ps", tags("b:latest", "A:latest"), tags("A:latest")),
        ("/v1/models", models("b:latest", "a:latest"), models("a:latest")),
        ("/api/tags", tags("b:latest"), tags()),
        ("/v1/models", models("b"), models()),
        (
            "/api/tags",
            b'{"models":[{"name":"a","model":"b"},{"name":"a"},{},{"name":"a b"}]}',
            b'{"models":[{"name":"a"}]}',
        ),
    ],
)
async def test_lists_show_what_may_be_used(path: str, whole: bytes, left: bytes) -> None:
    app = serving(whole[:7], whole[7:], headers=[(b"content-length", b"%d" % len(whole)), (b"x-a", b"1")])
    answer = await ask(Access(app, models=["a:*"]), "GET", path)
    assert answer.body == left
    assert answer.header("content-length") == str(len(left))
    assert answer.header("x-a") == "1"
    assert answer.complete


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/tags", tags("a", "b").replace(b",", b" , ") + b"\n"),
        ("/api/tags", tags()),
        ("/api/tags", b'{"models":null}'),
        ("/v1/models", b'{"object":"list","data":null}'),
    ],
)
async def test_a_list_in_which_nothing_is_hidden_stays_as_it_is(path: str, body: bytes) -> None:
    app = serving(body[:5], body[5:])
    answer = await ask(Access(app), "GET", path)
    assert answer.chunks == [body[:5], body[5:], b""]
    assert answer.headers == [(b"content-type", b"x")]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{}", b'{"models":{"a":1}}', b'{"models":[1]}', b'{"models":1}', b"<"]
)
async def test_a_list_that_cannot_be_read_is_not_shown(body: bytes) -> None:
    answer = await ask(Access(serving(body)), "GET", "/api/tags")
    assert isinstance(answer.error, UpstreamError)
    assert answer.status is None
    assert answer.body == b""


async def test_a_list_without_end_is_not_collected() -> None:
    answer = await ask(Access(serving(*[bytes(2**20)] * 40)), "GET", "/api/tags")
    assert isinstance(answer.error, UpstreamError)
    assert answer.body == b""


async def test_a_list_that_breaks_off_is_not_shown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": tags("a")[:20], "more_body": True})
        raise UpstreamError("cut")

    answer = await ask(Access(app), "GET", "/api/tags")
    assert (answer.status, answer.chunks) == (None, [])


async def test_errors_and_heads_of_lists_pass() -> None:
    answer = await ask(Access(serving(b"busy", status=503)), "GET", "/api/tags")
    assert (answer.status, answer.body) == (503, b"busy")
    answer = await ask(Access(serving(headers=[(b"content-length", b"99")])), "HEAD", "/api/tags")
    assert (answer.status, answer.header("content-length")) == (200, "99")


async def test_nothing_stands_between_a_stream_and_the_client() -> None:
    seen: list[object] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((receive, send))

    exchange = make_exchange(body=CHAT)

    async def send(message: Message) -> None:
        raise AssertionError

    receive = exchange.receive
    await Access(inner)(exchange.scope, receive, send)
    assert seen == [receive, send]


# Explaining


@pytest.mark.parametrize(
    ("method", "path", "body", "verdict", "text"),
    [
        ("POST", "/api/chat", CHAT, "pass", "inference requests are allowed, and so is 'llama3.2'"),
        ("GET", "/api/version", b"", "pass", "read requests are allowed"),
        ("GET", "/api/tags", b"", "change", "the list shows only models that may be used"),
        ("HEAD", "/", b"", "skip", "nothing here needs a permission"),
        ("POST", "/api/pull", CHAT, "refuse", "POST /api/pull is not allowed for you"),
        ("POST", "/api/chat", b'{"model":"x"}', "refuse", "the model 'x' is not allowed for you"),
    ],
)
async def test_explains_itself(method: str, path: str, body: bytes, verdict: str, text: str) -> None:
    explanation = await Access(ok, models=["llama*"]).explain(make_exchange(method, path, body=body))
    assert (explanation.verdict, explanation.text) == (verdict, text)


async def test_real_clients_of_the_form() -> None:
    request = httpx.Request("POST", "http://h/x", data={"model": "whisper"}, files={"file": ("a.wav", b"RIFF")})
    exchange: Exchange = make_exchange(
        "POST",
        "/v1/audio/transcriptions",
        body=request.read(),
        headers=[("content-type", request.headers["content-type"])],
    )
    assert (await call(Access(ok, models=["whisper"]), exchange)).status == 200
    assert exchange.model == parse_model("whisper")


async def test_nothing_of_it_runs_per_chunk() -> None:
    assert await hands_send_on(Access, make_exchange(body=b'{"model":"llama3.2"}'))


def test_a_name_of_any_length_is_not_remembered() -> None:
    access = Access(ok)
    assert access.allows("llama3.2")
    assert not access.allows("x" * 60_000)
    assert access._remembered.cache_info().currsize == 1  # type: ignore[attr-defined]  # of lru_cache
