"""An answer that comes too late for its status, as heartbeats have begun the response: the last record of a stream."""

from typing import Final

import orjson

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Message, Send
from proxy.kernel.error_rendering import render_record
from proxy.kernel.errors import BadAnswer, Flavor, ProxyError

LONGEST_ERROR: Final = 64 * 1024
"""Bytes of an error answer that are looked at for its message."""
UNFIT: Final = "the answer is no plain stream of events, as the one that heartbeats had begun"


class LateAnswer:
    """An answer that cannot go on in the stream that heartbeats have begun: it becomes the last record of it.

    Args:
        send: the server's.
        flavor: the format of errors.
        status: the status of the answer.
    """

    def __init__(self, send: Send, flavor: Flavor, status: int) -> None:
        self._send = send
        self._form = flavor
        self._status = status
        self._body = bytearray()

    def take(self, chunk: bytes) -> bool:
        """Take a chunk of the answer; returns True, as it takes more at once."""
        if len(self._body) <= LONGEST_ERROR:
            self._body += chunk
        return True

    async def send(self, message: Message) -> None:
        """Take the message of a body. The last one sends the record, and leaves the stream without its end.

        A 200 without a body is an answer of nothing, which ends the stream cleanly. Raises BadAnswer for any other 200.
        """
        self.take(message.get("body", b""))
        if message.get("more_body", False):
            return
        if self._status == 200 and not self._body:
            await self._send(message)
            return
        text = UNFIT if self._status == 200 else None
        record = _record(self._form, self._status, bytes(self._body), text)
        await self._send({"type": "http.response.body", "body": record, "more_body": True})
        if text is not None:
            raise BadAnswer(text, sent=True, received=True)


def _record(flavor: Flavor, status: int, body: bytes, text: str | None) -> bytes:
    """Return the answer with `status` and `body` as a record: an error in the format of `flavor` as it is.

    Of any other error it has the message; `text` is the message of an answer that is no error.
    """
    try:
        document = orjson.loads(body) if text is None else None
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict):
        error = document.get("error")
        if isinstance(error, dict) and (flavor != "anthropic" or document.get("type") == "error"):
            return (b"event: error\n" if flavor == "anthropic" else b"") + b"data: " + orjson.dumps(document) + b"\n\n"
        text = error.get("message") if isinstance(error, dict) else error
    said = text if isinstance(text, str) and text else f"the answer was an error with status {status}"
    return render_record(flavor, ProxyError(502 if status < 400 else status, said, code=codes.UPSTREAM_ERROR))
