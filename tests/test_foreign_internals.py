"""What we build on of other libraries beyond their documentation, so that a new version says where to look.

The bounds in pyproject.toml keep such a version away until somebody has looked. Whoever raises a bound runs this file
first.
"""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httptools
import pytest
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

ROOT = Path(__file__).parents[1]

USED: Final[dict[str, dict[type, set[str]]]] = {
    "proxy/server/request_reader.py": {
        HttpToolsProtocol: {
            *("loop", "transport", "flow", "parser", "headers", "cycle", "expect_100_continue"),
            *("data_received", "on_header", "on_headers_complete", "on_body", "on_message_complete"),
            *("_start_asgi_task", "_unset_keepalive_if_required"),
        },
        FlowControl: {"read_paused"},
        RequestResponseCycle: {"response_complete", "waiting_for_100_continue"},
    },
    "proxy/server/guarded_protocol.py": {
        HttpToolsProtocol: {
            *("loop", "server_state", "app_state", "transport", "flow", "cycle", "client", "connections", "tasks"),
            *("logger", "parser", "timeout_keep_alive", "timeout_keep_alive_task", "expect_100_continue"),
            *("connection_made", "connection_lost", "eof_received", "shutdown", "on_response_complete"),
            *("pause_writing", "resume_writing", "timeout_keep_alive_handler", "_unset_keepalive_if_required"),
        },
        FlowControl: {"resume_reading", "resume_writing"},
        RequestResponseCycle: {
            *("scope", "run_asgi", "disconnected", "message_event", "response_started", "response_complete"),
        },
    },
    "proxy/server/disconnect_watch.py": {
        FlowControl: {"_transport", "read_paused", "pause_reading", "resume_reading"},
    },
    "proxy/server/chunk_writer.py": {
        FlowControl: {"write_paused"},
        RequestResponseCycle: {"flow", "transport", "chunked_encoding", "disconnected"},
    },
    "proxy/server/http10.py": {
        RequestResponseCycle: {
            *("chunked_encoding", "expected_content_length", "response_complete", "disconnected", "transport"),
        },
    },
    "proxy/server/websocket_upgrade.py": {RequestResponseCycle: {"chunked_encoding", "scope"}},
    "proxy/server/websocket_connection.py": {ServerState: {"connections", "tasks"}},
    "proxy/server/server_state.py": {ServerState: {"default_headers"}},
    "proxy/server/idle_connections.py": {ServerState: {"connections"}},
    "proxy/server/server.py": {
        ServerState: {"connections", "default_headers", "tasks"},
        LifespanOn: {"startup", "shutdown", "should_exit", "state"},
        Config: {"load"},
    },
}
"""By file: every attribute of uvicorn's own classes that it reads, sets or overrides."""

NAMES: Final = {
    "proxy/server/request_reader.py": {"_types.ASGI3Application", "config.Config"}
    | {"protocols.http.httptools_impl.HttpToolsProtocol"},
    "proxy/server/guarded_protocol.py": {
        "_types.ASGI3Application",
        "config.Config",
        "protocols.http.flow_control.HIGH_WATER_LIMIT",
    },
    "proxy/server/disconnect_watch.py": {"protocols.http.flow_control.FlowControl"},
    "proxy/server/chunk_writer.py": {"protocols.http.httptools_impl.RequestResponseCycle"},
    "proxy/server/http10.py": {
        *(f"_types.{name}" for name in ("ASGI3Application", "ASGIReceiveCallable", "ASGISendCallable")),
        *("_types.ASGISendEvent", "_types.Scope", "protocols.http.httptools_impl.RequestResponseCycle"),
    },
    "proxy/server/websocket_upgrade.py": {
        *(f"_types.{name}" for name in ("ASGI3Application", "ASGIReceiveCallable", "ASGISendCallable")),
        *("_types.ASGISendEvent", "_types.Scope", "protocols.http.httptools_impl.RequestResponseCycle"),
    },
    "proxy/server/websocket_reader.py": {"protocols.http.flow_control.HIGH_WATER_LIMIT"},
    "proxy/server/server_state.py": {"protocols.http.httptools_impl.STATUS_LINE", "server.ServerState"},
    "proxy/server/server.py": {"_types.ASGIApplication", "config.Config", "lifespan.on.LifespanOn"},
}
"""By file: what it imports of uvicorn."""

LOOK: Final = (
    "uvicorn has changed: read its source beside this file of ours, see that it still holds, and then change USED"
)


def has(owner: type) -> set[str]:
    """The attributes of a class, those that its `__init__` sets included."""
    return {*vars(owner), *re.findall(r"self\.(\w+)\b[^=\n]*=", inspect.getsource(owner))}


@pytest.mark.parametrize(
    ("file", "owner"), [(file, owner) for file, owners in USED.items() for owner in owners], ids=str
)
def test_uvicorn_still_has_what_a_file_builds_on(file: str, owner: type) -> None:
    gone = USED[file][owner] - has(owner)
    assert not gone, f"{file} builds on {owner.__name__}.{', '.join(sorted(gone))}; {LOOK}"


def imported(path: Path) -> set[str]:
    return {
        f"{node.module.removeprefix('uvicorn.')}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "uvicorn" and node.module
        for alias in node.names
    }


def test_the_table_names_every_file_and_every_import() -> None:
    found = {str(path.relative_to(ROOT)): imported(path) for path in (ROOT / "proxy").rglob("*.py")}
    assert {file: names for file, names in found.items() if names} == NAMES


OWNERS: Final = {
    "self": {"GuardedProtocol": HttpToolsProtocol, "RequestReader": HttpToolsProtocol, "WatchedFlow": FlowControl},
    "cycle": RequestResponseCycle,
    "flow": FlowControl,
    "_state": ServerState,
    "_lifespan": LifespanOn,
    "_config": Config,
}


def attributes(path: Path) -> Iterator[tuple[type, str]]:
    """Every attribute of an object of uvicorn's that a file touches, by the name of the variable that holds it."""
    for definition in ast.walk(ast.parse(path.read_text())):
        own: type | None = None
        if isinstance(definition, ast.ClassDef):
            own = OWNERS["self"].get(definition.name)  # type: ignore[attr-defined]
            if own is not None:
                yield from ((own, m.name) for m in definition.body if isinstance(m, ast.FunctionDef))
        for node in ast.walk(definition):
            if not isinstance(node, ast.Attribute):
                continue
            holder = ast.unparse(node.value).rpartition(".")[2]
            if own is not None and ast.unparse(node.value) in ("self", "super()"):
                yield own, node.attr
            elif isinstance(OWNERS.get(holder), type):
                yield OWNERS[holder], node.attr  # type: ignore[misc]


@pytest.mark.parametrize("file", [file for file in USED if file != "proxy/server/server_state.py"])
def test_the_table_names_every_attribute(file: str) -> None:
    touched: dict[type, set[str]] = {}
    for owner, name in attributes(ROOT / file):
        if name in has(owner) and name != "__init__":
            touched.setdefault(owner, set()).add(name)
    assert touched == USED[file]


def test_uvicorn_starts_requests_where_the_guard_takes_them_over() -> None:
    called = HttpToolsProtocol.on_headers_complete.__code__.co_names
    assert {"_start_asgi_task", "RequestResponseCycle"} <= set(called), f"proxy/server/request_reader.py: {LOOK}"


def test_uvicorn_writes_chunks_as_our_short_way_does() -> None:
    source = inspect.getsource(RequestResponseCycle.send)
    assert 'content = [b"%x\\r\\n" % len(body), body, b"\\r\\n"]' in source, f"proxy/server/chunk_writer.py: {LOOK}"


def test_uvicorn_hides_no_disconnect_but_by_not_reading() -> None:
    """A watch for a closed socket is set where reading pauses; this is the one place where uvicorn pauses it."""
    assert inspect.getsource(httptools_impl).count(".pause_reading()") == 2, f"proxy/server/disconnect_watch.py: {LOOK}"


def test_llhttp_names_the_field_that_it_refuses_in_trailers() -> None:
    """`AnswerParser` tells a trailer that means nothing by these words."""
    parser = httptools.HttpResponseParser(object())
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(httptools.HttpParserError, match="Content-Length"):
        parser.feed_data(head + b"1\r\na\r\n0\r\nContent-Length: 1\r\n\r\n")


def test_limits_gives_its_redis_client() -> None:
    """`RedisStore` uses the connections that `limits` has opened (proxy/stores/redis.py)."""
    pytest.importorskip("redis")
    from proxy.stores.redis_url import open_storage

    bridge = open_storage("redis://127.0.0.1:1/0").bridge
    assert callable(getattr(bridge, "get_connection", None)), "proxy/stores/redis.py: limits has changed"
    sentinels: Any = open_storage("redis+sentinel://127.0.0.1:1/name").bridge
    assert sentinels.sentinel.sentinels, "proxy/stores/redis.py: limits has changed"


@pytest.mark.parametrize("name", ["uvicorn", "httptools", "limits"])
def test_a_library_whose_internals_we_use_has_an_upper_bound(name: str) -> None:
    (wanted,) = [
        entry
        for entry in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if re.match(rf"{name}\b", entry)
    ]
    assert "<" in wanted
