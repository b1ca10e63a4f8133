"""proxy/webhooks/message.py."""

import base64
from dataclasses import replace
from time import time

import orjson
from standardwebhooks import Webhook

from proxy.webhooks.message import message_id, message_of, signed
from tests.support.journals import START, row

ENDED = replace(
    row().entry,
    id="ab12",
    state="failed",
    fence=2,
    attempts=2,
    status=502,
    error="upstream_failed: my secret words",
    ended_at=START,
    usage={"tokens_in": 3},
    meta={"x": "my secret words"},
)


def test_a_message_has_the_state_and_no_words() -> None:
    message = message_of(ENDED)
    assert orjson.loads(message) == {
        "type": "request.failed",
        "timestamp": "2093-08-01T21:20:00Z",
        "data": {
            "id": "ab12",
            "state": "failed",
            "status": 502,
            "error": "upstream_failed",
            "model": "m",
            "attempts": 2,
            "usage": {"tokens_in": 3},
            "created_at": "2093-08-01T21:20:00Z",
            "ended_at": "2093-08-01T21:20:00Z",
        },
    }
    assert b"secret words" not in message


def test_a_message_about_a_batch_counts_its_requests() -> None:
    counts = {"processing": 0, "succeeded": 2, "errored": 1, "canceled": 0, "expired": 0}
    told = orjson.loads(message_of(replace(ENDED, kind="batch", state="completed", meta={"counts": counts})))
    assert (told["type"], told["data"]["counts"]) == ("batch.completed", counts)


def test_a_message_about_another_run_has_another_id() -> None:
    assert message_id(ENDED) == message_id(replace(ENDED, error=None)) != message_id(replace(ENDED, fence=3))


def test_receivers_verify_the_signature() -> None:
    key, message = b"k" * 32, message_of(ENDED)
    headers = {name.decode(): value.decode() for name, value in signed(key, "msg_1", int(time()), message)}
    assert Webhook("whsec_" + base64.b64encode(key).decode()).verify(message, headers)
