"""Whatever bytes stand in a request's fields, path and query, no answer is a 500: through guard, frame and plugins."""

import asyncio
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import Client

NAMES = [
    "Authorization", "X-Api-Key", "Cookie", "X-Forwarded-For", "Forwarded", "Via", "Traceparent", "Tracestate",
    "If-None-Match", "If-Modified-Since", "Accept", "Accept-Encoding", "Content-Type", "User-Agent", "Origin",
    "Referer", "X-Request-ID", "Range", "Expect", "Priority", "Anthropic-Version", "OpenAI-Organization", "X-Any",
]  # fmt: skip
CHAIN = [
    "logging",
    "metrics",
    {"cors": {"origins": ["https://chat.example.com"]}},
    {
        "auth": {
            "keys": "keys.yaml",
            "jwt": {"issuer": "https://login.example.com", "audience": "ollama", "secret": "x" * 32},
            "introspection": {"url": "http://127.0.0.1:9/i", "client_id": "proxy", "client_secret": "s"},
            "ollama_keys": "authorized_keys",
            "path_token": True,
            "failures": "off",
        }
    },
    {"access": {"models": ["*"]}},
    {"rate_limit": {"requests": "1000000/minute"}},
    "retry",
]

field_bytes = st.binary(max_size=40).map(lambda value: bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F))
"""What a field's value may consist of: anything but control bytes, ASCII or not."""
values = st.one_of(
    field_bytes,
    st.builds(
        bytes.__add__,
        st.sampled_from([b"Basic ", b"Bearer ", b"Bearer op_", b"bytes=", b"for=", b"application/", b"00-"]),
        field_bytes,
    ),
    st.text("0123456789abcdef-=;,\"'²٣é", max_size=40).map(lambda text: text.encode()),
)
targets = st.builds(
    lambda path, escaped, query: path + b"".join(b"%%%02X" % byte for byte in escaped) + query,
    st.sampled_from(
        [b"/api/tags", b"/api/chat", b"/k/", b"/k/key/api/tags", b"/v1/models/", b"/api/blobs/", b"/", b"/-/"]
    ),
    st.binary(max_size=12),
    st.binary(max_size=12).map(lambda value: b"?" + b"".join(b"%%%02X" % byte for byte in value)) | st.just(b""),
)
requests = st.builds(
    lambda target, fields: (target, fields),
    targets,
    st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=4),
)


def test_no_bytes_are_a_500(tmp_path: Path) -> None:
    (tmp_path / "authorized_keys").touch()
    key, entry = new_key("alice", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    loop = asyncio.new_event_loop()
    sent: Iterator[int] = count()

    async def status(proxy: Running, target: bytes, fields: list[tuple[str, bytes]], known: bool) -> int:
        lines = [b"GET %s HTTP/1.1" % target, b"Host: proxy"]
        if known:
            lines.append(b"Authorization: Bearer " + key.encode())
        lines += [name.encode() + b": " + value for name, value in fields]
        client = await Client.connect(proxy.address)
        await client.send(b"\r\n".join(lines) + b"\r\n\r\n")
        next(sent)
        answer = (await client.read()).status
        client.hang_up()
        return answer

    sim = Ollama()
    loop.run_until_complete(sim.__aenter__())
    place = running(sim.url, middleware=CHAIN, folder=tmp_path, trusted_proxies=["127.0.0.1"])
    proxy = loop.run_until_complete(place.__aenter__())

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(request=requests, known=st.booleans())
    def play(request: tuple[bytes, list[tuple[str, bytes]]], known: bool) -> None:
        assert loop.run_until_complete(status(proxy, *request, known)) != 500

    try:
        play()
        for bad in chain(range(0x80, 0x100), b" !,.:="):
            fields = [("Authorization", b"Basic " + bytes([bad]) * 4)]
            assert loop.run_until_complete(status(proxy, b"/api/tags", fields, known=False)) in (400, 401)
        assert not [event for event in proxy.log.events if event["event"] in ("plugin_failed", "finisher_failed")]
    finally:
        loop.run_until_complete(place.__aexit__(None, None, None))
        loop.run_until_complete(sim.__aexit__(None, None, None))
        loop.close()
    assert next(sent) > 100
