"""What the owner of an entry is told of it."""

from dataclasses import replace

from proxy.kernel.entry_document import description, receipt, time_text
from proxy.kernel.journal import Entry, StoredCaller

ENTRY = Entry(
    id="ab",
    kind="request",
    state="queued",
    caller=StoredCaller(identity="alice", claims={"secret": "s3cret"}),
    method="POST",
    path="/api/chat",
    query="",
    headers=(("accept", "x"),),
    flavor="ollama",
    model="m",
    parent=None,
    cost=1,
    priority=0,
    created_at=0.5,
    expires_at=86400.0,
    position=3,
    meta={"digest": "d", "webhook": "https://example.com/hook"},
)


def test_a_receipt() -> None:
    assert receipt(ENTRY, durable=True) == {
        "id": "ab",
        "state": "queued",
        "position": 3,
        "answer": "/-/requests/ab/answer",
        "expires_at": "1970-01-02T00:00:00.000Z",
        "durable": True,
    }
    assert "note" in receipt(ENTRY, durable=False)


def test_a_description_has_no_words_and_no_caller() -> None:
    told = description(replace(ENTRY, usage={"tokens_in": 2}, error="x: y", status=404, recorded=7), durable=True)
    assert (told["usage"], told["error"], told["status"], told["recorded"]) == ({"tokens_in": 2}, "x: y", 404, 7)
    assert "s3cret" not in str(told)
    assert "hook" not in str(told)
    assert not {"caller", "headers", "meta", "body"} & told.keys()


def test_times() -> None:
    assert time_text(None) is None
    assert time_text(1.5) == "1970-01-01T00:00:01.500Z"
