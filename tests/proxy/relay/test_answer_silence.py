"""proxy/relay/answer_silence.py; what its answer decides is in tests/live/test_pool_timeouts.py."""

import pytest

from proxy.relay.answer_silence import may_hold_back
from proxy.testing import make_exchange


@pytest.mark.parametrize(
    ("path", "body", "may"),
    [
        ("/api/chat", b'{"model":"m","tools":[{}]}', True),
        ("/v1/chat/completions", b'{"model":"m","tools":[{}]}', True),
        ("/v1/responses", b'{"model":"m","tools":[{}]}', True),
        ("/v1/messages", b'{"model":"m","tools":[{}]}', True),
        ("/api/chat", b'{"model":"m"}', False),
        ("/api/chat", b'{"model":"m","tools":[]}', False),
        ("/api/chat", b'{"model":"m","tools":null,"format":"json"}', False),
        ("/api/chat", b'{"model":"m","messages":[{"role":"user","content":"\\"tools\\":[1]"}]}', False),
        ("/api/chat", b'{"model":"m","tools":[1]} and more', True),  # Ollama reads it, this proxy does not
        ("/api/embed", b'{"model":"m","tools":[{}]}', False),
        ("/v1/audio/transcriptions", b"--b--", False),
        ("/api/pull", b'{"model":"m","tools":[{}]}', False),
        ("/nothing", b'{"tools":[{}]}', False),
    ],
)
async def test_only_with_tools_may_an_answer_be_silent_for_long(path: str, body: bytes, may: bool) -> None:
    exchange = make_exchange("POST", path, body=body)
    await exchange.body()
    assert may_hold_back(exchange) is may
