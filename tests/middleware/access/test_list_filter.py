"""middleware/access/list_filter.py; what it hides is tested with the plugin."""

import orjson
import pytest

from middleware.access.list_filter import ListFilter
from proxy.kernel.asgi import Message
from proxy.kernel.route import ModelList

LIST = ModelList("data", ("id",))


@pytest.mark.parametrize("end", [b"", b"\n"])
async def test_a_list_keeps_the_end_that_it_had(end: bytes) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    listed = ListFilter(lambda name: name != "hidden", LIST, send)
    body = orjson.dumps({"data": [{"id": "shown"}, {"id": "hidden"}]}) + end
    await listed({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await listed({"type": "http.response.body", "body": body})
    wanted = b'{"data":[{"id":"shown"}]}' + end
    assert (sent[1]["body"], sent[0]["headers"]) == (wanted, [(b"content-length", b"%d" % len(wanted))])
