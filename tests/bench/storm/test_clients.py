"""How a client of a storm tells a whole answer from one that only looks like it."""

import pytest

from bench.soak.wire import Head
from bench.storm.clients import ending

NDJSON = {"content-type": "application/x-ndjson"}
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    ("fields", "text", "end"),
    [
        (NDJSON, b'{"done":false}\n{"done":true}\n', "whole"),
        (NDJSON, b'{"done":false}\n', "false"),
        (NDJSON, b'{"done":false}\n{"error":"the backend broke off"}\n', "cut"),
        (SSE, b"data: {}\n\ndata: [DONE]\n\n", "whole"),
        (SSE, b"event: message_stop\ndata: {}\n\n", "whole"),
        (SSE, b"data: {}\n\n", "false"),
        (JSON, b'{"models":[]}', "whole"),
        (JSON, b'{"message":{},"done":true}', "whole"),
        (JSON, b'{"message":{},"done":false}', "false"),
        (JSON, b'{"error":"the runner has died"}', "false"),
        (JSON, b"[]", "false"),
        (JSON, b'{"models":[', "false"),
        (JSON, b"", "false"),
    ],
)
def test_endings(fields: dict[str, str], text: bytes, end: str) -> None:
    assert ending(Head(200, fields), text)[0] == end
