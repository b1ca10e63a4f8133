"""proxy/kernel/routes.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel import parameter_places
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import UNKNOWN_RUN, Route
from proxy.kernel.routes import Match, NoMatch, RouteTable, behaves_as, declared, flavor_of, known_route, socket_routes

TABLE = RouteTable()


def found(method: str, path: str, query: bytes = b"") -> Match:
    match = TABLE.match(method, path, query)
    assert isinstance(match, Match)
    return match


@pytest.mark.parametrize("route", OLLAMA, ids=lambda route: f"{route.methods[0]} {route.path}")
def test_every_route_finds_itself(route: Route) -> None:
    path = route.path.replace("{model}", "m").replace("{digest}", "sha256:00").replace("{key}", "k")
    for method in route.methods:
        match = found(method, path)
        assert match.route is route
        assert match.target == path.encode()


@pytest.mark.parametrize(
    "path",
    [
        *("//api/pull", "/api//pull", "/api/./pull", "/api/x/../pull", "/API/pull", "/api/Pull", "/api/pull;x", "/api"),
        *("/api/pull\x00", "/api\\pull", "/api/pull ", " /api/pull", "/api/pull?", "/api%2fpull", "api/pull", "", "x"),
        *("/v1/models/a/b", "/v1/models/", "/api/blobs/", "/v1/models/..", "/v1/models/.", "/v1/models/a\n", "/-/x"),
    ],
)
def test_odd_spellings_are_no_route(path: str) -> None:
    for method in ("GET", "POST"):
        match = TABLE.match(method, path)
        assert isinstance(match, NoMatch)
        assert not match.allow


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/chat", ("POST",)),
        ("post", "/api/chat", ("POST",)),
        ("DELETE", "/", ("GET", "HEAD")),
        ("PUT", "/api/blobs/sha256:00", ("HEAD", "POST")),
        ("POST", "/v1/models/x", ("GET",)),
    ],
)
def test_other_methods_are_told_which_to_use(method: str, path: str, allow: tuple[str, ...]) -> None:
    assert TABLE.match(method, path) == NoMatch(allow=allow)


@pytest.mark.parametrize("path", ["/api/tags/", "/v1/models/", "/api/chat/"])
def test_a_slash_too_many_is_redirected(path: str) -> None:
    assert TABLE.match("GET", path) == NoMatch(location=path[:-1])


@pytest.mark.parametrize(
    ("argument", "target"),
    [
        ("llama3.2:1b", b"/v1/models/llama3.2:1b"),
        ("a b", b"/v1/models/a%20b"),
        ("a%2fb", b"/v1/models/a%252fb"),
        ("ä?x#y", b"/v1/models/%C3%A4%3Fx%23y"),
        ("...", b"/v1/models/..."),
    ],
)
def test_the_target_is_written_anew(argument: str, target: bytes) -> None:
    match = found("GET", f"/v1/models/{argument}")
    assert (match.target, match.argument) == (target, argument)


@given(st.text(min_size=1, max_size=9))
def test_a_target_never_leaves_its_route(argument: str) -> None:
    match = TABLE.match("GET", f"/v1/models/{argument}")
    if isinstance(match, Match):
        last = match.target.removeprefix(b"/v1/models/")
        assert last
        assert last not in (b".", b"..")
        assert not set(last) & set(b"/?#\\ \r\n")
        assert all(0x20 < byte < 0x7F for byte in match.target)


@pytest.mark.parametrize(
    ("query", "target"),
    [
        (b"", b"/v1/audio/transcriptions"),
        (b"model=x", b"/v1/audio/transcriptions?model=x"),
        (b"a=1&model=x%26y=&b", b"/v1/audio/transcriptions?model=x%26y%3D"),
        (b"mod%65l=x", b"/v1/audio/transcriptions?model=x"),
        (b"model=", b"/v1/audio/transcriptions?model="),
        (b"model=a&model=b", b"/v1/audio/transcriptions?model=a&model=b"),
        (b"Model=x;model=y", b"/v1/audio/transcriptions"),
        (b"model=\xc3\xa4%C3%A4", b"/v1/audio/transcriptions?model=%C3%83%C2%A4%C3%A4"),
    ],
)
def test_of_the_query_only_what_counts_is_kept(query: bytes, target: bytes) -> None:
    assert found("POST", "/v1/audio/transcriptions", query).target == target


def test_other_routes_have_no_query() -> None:
    assert found("GET", "/api/tags", b"model=x").target == b"/api/tags"


def test_a_table_can_be_extended_and_changed() -> None:
    images = Route("/v1/images/generations", ("POST",), "inference", "openai", body="json", models=("model",))
    closed = Route("/", ("GET", "HEAD"), "read", "text")
    table = RouteTable([images, closed])
    match: Any = table.match("POST", images.path)
    assert match.route is images
    match = table.match("GET", "/")
    assert match.route is closed


def test_the_table_is_consistent() -> None:
    for route in OLLAMA:
        assert route.path.startswith("/")
        assert (route.stream is None) or route.body == "json"
        assert not route.models or route.body in ("json", "multipart")
        assert route.flavor == flavor_of(route.path)
    assert [route.path for route in OLLAMA if route.open] == ["/"]


@pytest.mark.parametrize(
    ("path", "flavor"),
    [("/v1/messages", "anthropic"), ("/v1/x", "openai"), ("/api/x", "ollama"), ("/x", "text"), ("/", "text")],
)
def test_errors_have_a_flavor_everywhere(path: str, flavor: str) -> None:
    assert flavor_of(path) == flavor


@pytest.mark.parametrize(
    ("path", "flavor"),
    [("/v1/messages/x", "anthropic"), ("/v1/x", "openai"), ("/api/x", "ollama"), ("/x", "ollama")],
)
def test_a_declared_route_says_errors_as_its_path_does(path: str, flavor: str) -> None:
    assert declared(path, ("POST",), None, {"kind": "read"}).flavor == flavor


@pytest.mark.parametrize("route", OLLAMA, ids=lambda route: route.path)
def test_a_known_route_says_errors_as_its_path_does(route: Route) -> None:
    assert route.flavor == flavor_of(route.path)


@pytest.mark.parametrize("route", OLLAMA, ids=lambda route: f"{route.methods[0]} {route.path}")
def test_a_declared_route_is_all_that_the_known_one_is_but_open(route: Route) -> None:
    end = "/{x}" if "{" in route.path else ""
    found = declared(f"/v2{end}", route.methods, route.path, {})
    own = {"path", "methods", "open", "page", "probe", "like", "summary"}
    for name in set(Route.__slots__) - own:
        assert getattr(found, name) == getattr(route, name), name
    assert (found.open, found.page, found.probe, found.like) == (False, False, False, route.path)


@pytest.mark.parametrize(
    ("path", "methods", "like", "known"),
    [
        ("/v2/chat", ("POST",), "/api/chat", "POST /api/chat"),
        ("/v2/chat", ("PUT",), "/api/chat", "POST /api/chat"),
        ("/v2/x", ("POST",), "/api/blobs/{digest}", "POST /api/blobs/{digest}"),
        ("/v2/x", ("HEAD",), "/api/blobs/{digest}", "HEAD /api/blobs/{digest}"),
        ("/api/chat", ("POST",), None, "POST /api/chat"),
        ("/api/chat", ("GET", "POST"), None, "POST /api/chat"),
        ("/api/chat", ("GET",), None, None),
        ("/v1/models/{id}", ("GET",), None, "GET /v1/models/{model}"),
        ("/v1/models/one", ("GET",), None, None),
        ("/v2/chat", ("POST",), None, None),
        ("/v2/chat", ("POST",), "/api/nothing", None),
    ],
)
def test_which_known_route_one_is_like(
    path: str, methods: tuple[str, ...], like: str | None, known: str | None
) -> None:
    found = behaves_as(path, methods, like)
    assert (found and f"{found.methods[0]} {found.path}") == known


def test_what_a_declared_route_says_itself_goes_before() -> None:
    chat = known_route("/api/chat")
    assert chat is not None
    found = declared("/v2/chat", ("POST",), "/api/chat", {"stream": False, "kind": "manage", "parameters": "none"})
    assert (found.stream, found.kind, found.body) == (False, "manage", "json")
    assert found.run is not None
    assert (found.run.parameters, found.run.operation) == (parameter_places.NONE, "chat")
    assert declared("/v2/chat", ("POST",), "/api/chat", {"body": "raw"}).repeat == "never"


def test_a_route_that_is_like_none_is_taken_for_the_stricter() -> None:
    unknown = declared("/v1/images", ("POST",), None, {"kind": "inference"})
    assert (unknown.run, unknown.repeat, unknown.flavor, unknown.like) == (UNKNOWN_RUN, "never", "openai", None)
    assert unknown.writes
    assert declared("/x", ("POST",), None, {"kind": "manage"}).plain_names
    reads = declared("/x", ("POST",), None, {"kind": "read"})
    assert (reads.run, reads.plain_names, reads.flavor) == (None, False, "ollama")
    assert declared("/x/{model}", ("GET",), None, {"kind": "read"}).model_in_path
    assert declared("/v1/models/{id}", ("GET",), None, {}).model_in_path
    assert not declared("/x", ("GET",), "/v1/models/{model}", {}).model_in_path


STORED = RouteTable(
    [
        Route("/-/requests/{id}", ("GET", "DELETE"), "stored"),
        Route("/-/requests/{id}/answer", ("GET",), "stored", query=("offset",)),
    ]
)


def test_a_variable_segment_may_stand_before_fixed_ones() -> None:
    assert STORED.match("GET", "/-/requests/a").route.path == "/-/requests/{id}"  # type: ignore[union-attr]
    match = STORED.match("GET", "/-/requests/a b/answer", b"offset=3&x=1")
    assert isinstance(match, Match)
    assert (match.argument, match.target) == ("a b", b"/-/requests/a%20b/answer?offset=3")
    assert STORED.match("POST", "/-/requests/a/answer") == NoMatch(("GET",))


@pytest.mark.parametrize("path", ["/-/requests//answer", "/-/requests/../answer", "/-/requests/a/other", "/x/a/answer"])
def test_a_path_that_only_looks_like_it_is_no_route(path: str) -> None:
    assert STORED.match("GET", path) == NoMatch()


def test_each_route_with_a_socket_has_a_get_that_opens_it() -> None:
    mine = declared("/v2/chat", ("POST",), "/v1/chat/completions", {})
    opened = {route.path: route for route in socket_routes((mine, *OLLAMA))}
    assert opened.keys() == {
        *("/v2/chat", "/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages"),
        "/v1/responses",
    }
    assert {route.methods for route in opened.values()} == {("GET",)}
    assert {route.kind for route in opened.values()} == {"stored"}
    assert (opened["/v1/responses"].socket, opened["/v1/messages"].flavor) == ("responses", "anthropic")
    table = RouteTable(opened.values())
    match = table.match("POST", "/api/chat")
    assert isinstance(match, Match)
    assert match.route.kind == "inference"
